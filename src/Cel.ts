/**
 * The CEL library. The build bundles it into this package. It is evaluated on first use, since most programs
 * have no expressions.
 */
import * as library from "@marcbachmann/cel-js"

export const cel = (): typeof library => library
