/** The steps inside the code of a step of an Effect handler: every call fails with an error. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NestedStepError } from "../Errors.ts"
import { type Invokable, Step, type StepService } from "../Step.ts"
import { primitives } from "./StepTable.ts"

class NestedSteps {
  readonly #outer: string

  // one method for all primitives, whatever their arguments besides the name
  static {
    for (const primitive of Object.keys(primitives)) {
      Reflect.set(this.prototype, primitive, function (this: NestedSteps, target: string | Invokable) {
        return Effect.fail(this.refusal(typeof target === "string" ? target : target.config.id))
      })
    }
  }

  constructor(outer: string) {
    this.#outer = outer
  }

  refusal(name: string): NestedStepError {
    return new NestedStepError(name, this.#outer)
  }
}

/** The steps within the code of step `outer`. */
export const nestedSteps = (outer: string): StepService =>
  // it has a method for each of `primitives`, which are those of the service
  new NestedSteps(outer) as unknown as StepService

/**
 * Throws `NestedStepError` when a call comes from the code of a step: the handler's own service may be used there by
 * mistake.
 */
export const refuseNested = (callersContext: Context.Context<never>, name: unknown): void => {
  const steps: unknown = Context.getOrUndefined(callersContext, Step)
  if (steps instanceof NestedSteps) throw steps.refusal(String(name))
}
