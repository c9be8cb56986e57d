/** The `tx` argument of the body of an Effect handler's `Step.tx`. */
import * as Effect from "effect/Effect"
import { InvalidStateError, ValidationError } from "../Errors.ts"
import type { EffectTx } from "../Step.ts"
import type { TxCollector } from "./Tx.ts"

/** Makes each write an effect, which adds the write to the collector. Invalid arguments become failures. */
export const effectTx = (collector: TxCollector): EffectTx => {
  const collect = (add: () => void): Effect.Effect<void, ValidationError | InvalidStateError> =>
    Effect.suspend(() => {
      try {
        add()
        return Effect.void
      } catch (error) {
        return error instanceof ValidationError || error instanceof InvalidStateError
          ? Effect.fail(error)
          : Effect.die(error)
      }
    })
  return {
    streams: {
      append: (...args) => collect(() => collector.streams.append(...args)),
      appendAll: (...args) => collect(() => collector.streams.appendAll(...args)),
      of: (entity) => {
        const streams = collector.streams.of(entity)
        return {
          append: (...args) => collect(() => streams.append(...args)),
          appendAll: (...args) => collect(() => streams.appendAll(...args))
        }
      }
    },
    emit: (...args) => collect(() => collector.emit(...args)),
    kv: (bucket, options) => {
      // an invalid schema is only refused when a key is written
      const keys = () => collector.kv(bucket, options)
      return {
        put: (...args) => collect(() => keys().put(...args)),
        create: (...args) => collect(() => keys().create(...args)),
        update: (...args) => collect(() => keys().update(...args)),
        delete: (...args) => collect(() => keys().delete(...args))
      }
    }
  }
}
