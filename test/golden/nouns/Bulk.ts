import { type Given, type Noun, ok, rpc } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

/** Runs that wait for a worker. */
const setUp = async (rig: Rig): Promise<Given> => {
  await rpc(rig, "RegisterFunction", { id: "ship-order", triggers: [{ event: "order.placed" }] })
  const started = async () => (await rpc(rig, "Trigger", { event: "order.placed", data: {} })).runIds[0]
  return { first: await started(), second: await started() }
}

/** An operation that has ended. */
const ended = async (rig: Rig, { first = "" }: Given): Promise<Given> => {
  const body = { action: "pause", ids: [first, "run_none"], reason: "look", dryRun: true }
  const { id } = await ok(rig, "POST", "/api/v1/bulk", body)
  // each check is a request, so this is no busy loop
  while ((await ok(rig, "GET", `/api/v1/bulk/${id}`)).status === "running");
  return { id }
}

export const bulk: Noun = {
  setUp,
  calls: {
    startBulk: {
      call: () => ({
        body: {
          action: "cancel",
          filters: { functionId: "ship-order", status: "failed" },
          reason: "recalled",
          dryRun: true
        }
      }),
      more: {
        "by ids": ({ first }) => ({ body: { action: "retry", ids: [first], fromStep: "charge" } }),
        "by ids and filters": ({ first }) => ({
          body: { action: "retry", ids: [first], filters: { status: "failed" } }
        }),
        "by several functions and times": () => ({
          body: {
            action: "delete",
            filters: { functionIds: ["ship-order", "nobody"], endedTo: "2026-01-01", error: "declined" },
            dryRun: true
          }
        }),
        "without a filter": () => ({ body: { action: "cancel", filters: {} } }),
        "an invalid filter": () => ({ body: { action: "cancel", filters: { state: "failed" } } }),
        "a page of runs": () => ({ body: { action: "cancel", filters: { status: "failed", limit: 5 } } }),
        "an invalid member": () => ({
          body: { action: "cancel", filters: { status: "failed" }, dryrun: true }
        }),
        "an invalid action": () => ({ body: { action: "erase", filters: { status: "failed" } } }),
        "to another version": ({ first }) => ({ body: { action: "move", ids: [first], version: "2" } }),
        "a version for a retry": ({ first }) => ({ body: { action: "retry", ids: [first], version: "2" } }),
        "a reason for a retry": ({ first }) => ({ body: { action: "retry", ids: [first], reason: "so" } })
      }
    },
    startErase: {
      call: () => ({
        body: { events: { where: "event.data.email == 'jane@example.com'" }, dryRun: true, cancel: true }
      }),
      more: {
        "runs and streams": ({ first }) => ({
          body: { runIds: [first, "run_none"], streams: ["customer-1"], configs: ["of-jane"], dryRun: true }
        }),
        "by filters of runs": () => ({
          body: { runs: { functionId: "ship-order", where: "event.data.a == 1" }, dryRun: true }
        }),
        nothing: () => ({ body: {} }),
        "no events": () => ({ body: { events: {}, dryRun: true } }),
        "an invalid filter": () => ({ body: { events: { wher: "true" }, dryRun: true } }),
        "a filter that is blank": () => ({ body: { events: { where: " " }, dryRun: true } }),
        "an invalid expression": () => ({ body: { events: { where: "event.data ==" } } }),
        "a dry run that says nothing": () => ({ body: { streams: ["customer-1"], dryRun: null } }),
        "a bucket that is not there": () => ({ body: { keys: [{ bucket: "nowhere", key: "a" }] } })
      }
    },
    listBulk: { fresh: ended, call: () => ({}) },
    getBulk: { fresh: ended, call: ({ id = "" }) => ({ variables: { id } }) },
    cancelBulk: { fresh: ended, call: ({ id = "" }) => ({ variables: { id } }) }
  }
}
