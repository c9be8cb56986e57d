/** A proxy that sends requests twice, the second time late. */
import http from "node:http"
import { startEngine } from "@ironflow/node/engine"
import { createFunction, createWorker } from "@ironflow/node"
import { expect, it } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { listen } from "../Serve/Hosts.ts"

it("a registration that a proxy repeats does not take runs from the working worker", async () => {
  await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  const registrations: Array<() => Promise<number | undefined>> = []
  const forward = (request: http.IncomingMessage, body: Buffer) =>
    new Promise<http.IncomingMessage>((resolve, reject) => {
      const { headers, method, url } = request
      http
        .request(engine.url! + url, { method, headers, agent: false }, resolve)
        .on("error", reject)
        .end(body)
    })
  const proxy = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    if (request.url?.endsWith("/register") === true) {
      registrations.push(async () => (await forward(request, body)).resume().statusCode)
    }
    const answer = await forward(request, body)
    response.writeHead(answer.statusCode!, answer.headers)
    answer.pipe(response)
  })
  const begun = createDeferred<AbortSignal>()
  const finish = createDeferred<void>()
  let executions = 0
  const fn = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
    step.run("charge", async ({ signal }) => {
      executions++
      begun.resolve(signal)
      await finish.promise
      return signal.aborted
    })
  )
  const worker = createWorker({ serverUrl: proxy.url, functions: [fn], logger: false })
  const working = worker.start()
  await worker.ready()
  const { runIds } = await engine.client.emit("order.placed", {})
  const signal = await begun.promise

  expect(await Promise.all(registrations.map((again) => again()))).toEqual([200])
  const [second] = (await engine.client.emit("order.placed", {})).runIds
  finish.resolve()

  expect(await engine.client.waitForRun(runIds[0]!)).toMatchObject({ status: "completed", output: false })
  expect(await engine.client.waitForRun(second!)).toMatchObject({ status: "completed" })
  expect(signal.aborted).toBe(false)
  expect([executions, registrations.length]).toEqual([2, 1])
  await worker.stop()
  await working
  await proxy.close()
})
