/** The CEL library. The build puts it inside this package and evaluates it on the first call: most programs have no expression. */
import * as library from "@marcbachmann/cel-js"

export const cel = (): typeof library => library
