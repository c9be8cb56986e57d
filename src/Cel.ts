/**
 * The CEL library. The build bundles the library into this package. Its code runs only on the first call of `cel`,
 * since most programs have no expressions.
 */
import * as library from "@marcbachmann/cel-js"

export const cel = (): typeof library => library
