/**
 * HTTP/1.1 of Node.js, which nobody imports: an import asks for every export at once, and one of them loads all of `fetch`. That
 * takes longer than the server itself.
 */
import type * as NodeHttp from "node:http"

export const {
  STATUS_CODES,
  createServer,
  request
}: Pick<typeof NodeHttp, "STATUS_CODES" | "createServer" | "request"> = process.getBuiltinModule("node:http")
