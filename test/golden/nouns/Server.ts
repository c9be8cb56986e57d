import { type Noun, type Spec, rpc } from "../Noun.ts"
import { RawTurnWorker } from "../../wire/RawTurnWorker.ts"
import { RawWorker } from "../../wire/RawWorker.ts"

const asked: Spec = { call: () => ({ body: {} }) }

export const server: Noun = {
  setUp: async (rig) => {
    await new RawWorker(rig.url, [{ id: "pack-order" }]).register()
    await new RawTurnWorker(rig.url).register()
    await rpc(rig, "Trigger", { event: "order.placed", data: {} })
    return {}
  },
  endpoints: {
    info: asked,
    minutes: { call: () => ({}) },
    doctor: { call: () => ({}) },
    getCapabilities: asked,
    health: asked,
    restHealth: { call: () => ({}) },
    ready: { call: () => ({}) },
    // the engine is in memory; what is answered where it is not is in `test/wire/backup.test.ts`
    backup: asked,
    restCapabilities: { call: () => ({}) },
    restWorkers: { call: () => ({}), pages: "query" }
  }
}
