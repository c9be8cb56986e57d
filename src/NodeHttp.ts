/**
 * HTTP/1.1 of Node.js, without an import of `node:http`. An import would read all exports of `node:http`. One of these
 * exports loads all of `fetch`, and that takes longer than loading the engine's server.
 */
import type * as NodeHttp from "node:http"

export const {
  STATUS_CODES,
  createServer,
  request
}: Pick<typeof NodeHttp, "STATUS_CODES" | "createServer" | "request"> = process.getBuiltinModule("node:http")
