/** Commands that make one call of the client and print the answer. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import type { ClientServices } from "../Client/Services.ts"
import { print } from "./Output.ts"
import { callService } from "./ServerCalls.ts"

type Input<Config extends Command.Command.Config> = Command.Command.Config.Infer<Config>

/** Makes the commands for one service of the client. */
export const commandsOf =
  <I extends ClientServices, Api>(service: Context.Key<I, Api>) =>
  <Name extends string, A, E, const Config extends Command.Command.Config = {}>(
    name: Name,
    {
      description,
      call,
      json = (answer) => answer,
      parameters,
      text
    }: {
      /** The description of the command in its help. */
      readonly description: string
      /** The arguments and flags of the command. */
      readonly parameters?: Config
      readonly call: (api: Api, input: Input<Config>) => Effect.Effect<A, E>
      /** Makes the output with `--json`. By default the output is the answer itself. */
      readonly json?: (answer: A, input: Input<Config>) => unknown
      /** Makes the output for people. */
      readonly text: (answer: A, input: Input<Config>) => string
    }
  ) =>
    // without `parameters`, the type `Config` has no members
    Command.make(name, parameters ?? ({} as Config), (input) =>
      Effect.flatMap(
        callService(service, (api) => call(api, input)),
        (answer) => print(json(answer, input), () => text(answer, input))
      )
    ).pipe(Command.withDescription(description))

/** The values of the given flags and arguments, by the names that the client has for them. */
export const givenFlags = <A extends object>(flags: {
  readonly [K in keyof A]: Option.Option<A[K]>
}): Partial<A> =>
  // each entry is the value of the flag of that name
  Object.fromEntries(
    Object.entries<Option.Option<unknown>>(flags).flatMap(([name, flag]) =>
      Option.isSome(flag) ? [[name, flag.value]] : []
    )
  ) as Partial<A>
