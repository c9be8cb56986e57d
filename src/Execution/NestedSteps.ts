/** The steps that the code of a step sees in an Effect handler: every call of them fails with an error. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NestedStepError } from "../Errors.ts"
import { type Invokable, Step, type StepService } from "../Step.ts"
import { primitives } from "./StepTable.ts"

class NestedSteps {
  readonly #outerStep: string

  // makes one method for each primitive, whose first argument is always a name or a function
  static {
    for (const primitive of Object.keys(primitives)) {
      Reflect.set(this.prototype, primitive, function (this: NestedSteps, target: string | Invokable) {
        return Effect.fail(this.refusal(typeof target === "string" ? target : target.config.id))
      })
    }
  }

  constructor(outer: string) {
    this.#outerStep = outer
  }

  refusal(name: string): NestedStepError {
    return new NestedStepError(name, this.#outerStep)
  }
}

/** Makes the steps for the code of step `outer`. */
export const nestedSteps = (outer: string): StepService =>
  // the class has a method for each of `primitives`, which the compiler checks to be those of the service
  new NestedSteps(outer) as unknown as StepService

/**
 * Throws `NestedStepError` when a call comes from the code of a step: that code may have kept a reference to the
 * handler's service.
 */
export const refuseNested = (callersContext: Context.Context<never>, name: unknown): void => {
  const steps: unknown = Context.getOrUndefined(callersContext, Step)
  if (steps instanceof NestedSteps) throw steps.refusal(String(name))
}
