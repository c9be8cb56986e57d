/** The file that a command writes or reads as a whole. */
import * as Argument from "effect/cli/Argument"

/** A name of a file. `-` stands for a pipe elsewhere, and would make a file of that name. */
export const fileArgument = Argument.String("file").pipe(
  Argument.filter(
    (name) => name !== "-",
    () => "a file name: - is not possible here, and a file called - is written ./-"
  )
)
