/** Commands that make one call of the client and print what it answers. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import type { ClientServices } from "../Client/Services.ts"
import { print } from "./Output.ts"
import { askFor } from "./Server.ts"

type Takes<Config extends Command.Command.Config> = Command.Command.Config.Infer<Config>

/** Such commands about what a service of the client is for. */
export const commandsOf =
  <I extends ClientServices, Api>(service: Context.Key<I, Api>) =>
  <Name extends string, A, E, const Config extends Command.Command.Config = {}>(
    name: Name,
    {
      about,
      call,
      json = (answer) => answer,
      takes,
      text
    }: {
      /** For its help. */
      readonly about: string
      /** Its arguments and flags. */
      readonly takes?: Config
      readonly call: (api: Api, input: Takes<Config>) => Effect.Effect<A, E>
      /** What programs get; the answer as it is unless said otherwise. */
      readonly json?: (answer: A, input: Takes<Config>) => unknown
      /** What people get. */
      readonly text: (answer: A, input: Takes<Config>) => string
    }
  ) =>
    // without any the type says that there are none
    Command.make(name, takes ?? ({} as Config), (input) =>
      Effect.flatMap(
        askFor(service, (api) => call(api, input)),
        (answer) => print(json(answer, input), () => text(answer, input))
      )
    ).pipe(Command.withDescription(about))

/** The flags and arguments that were given, by the names that the client has for them. */
export const given = <A extends object>(flags: {
  readonly [K in keyof A]: Option.Option<A[K]>
}): Partial<A> =>
  // every entry comes from the flag of that name
  Object.fromEntries(
    Object.entries<Option.Option<unknown>>(flags).flatMap(([name, flag]) =>
      Option.isSome(flag) ? [[name, flag.value]] : []
    )
  ) as Partial<A>
