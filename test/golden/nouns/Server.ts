import { type Noun, type Spec, rpc } from "../Noun.ts"
import { RawTurnWorker } from "../../wire/RawTurnWorker.ts"
import { RawWorker } from "../../wire/RawWorker.ts"

const empty: Spec = { call: () => ({ body: {} }) }

export const server: Noun = {
  setUp: async (rig) => {
    await new RawWorker(rig.url, [{ id: "pack-order" }]).register()
    await new RawTurnWorker(rig.url).register()
    await rpc(rig, "Trigger", { event: "order.placed", data: {} })
    return {}
  },
  calls: {
    info: empty,
    minutes: { call: () => ({}) },
    doctor: { call: () => ({}) },
    getCapabilities: empty,
    health: empty,
    restHealth: { call: () => ({}) },
    ready: { call: () => ({}) },
    // this engine is in memory; `test/Engine/Backup.test.ts` has the answers of one with a file
    backup: empty,
    restCapabilities: { call: () => ({}) },
    restWorkers: { call: () => ({}), pages: "query" }
  }
}
