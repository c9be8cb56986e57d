/** The argument for a file that a command writes or reads as a whole. */
import * as Argument from "effect/cli/Argument"

/** The name of a file. `-` is refused: in other commands it means standard input, and here it would name a file `-`. */
export const fileArgument = Argument.String("file").pipe(
  Argument.filter(
    (name) => name !== "-",
    () => 'a file name: "-" is not possible here. For a file called "-", give "./-"'
  )
)
