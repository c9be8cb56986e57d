/**
 * The CEL library. The build bundles it into this package in such a way that its code runs on the first call of
 * `cel`, since most programs have no expressions.
 */
import * as library from "@marcbachmann/cel-js"

export const cel = (): typeof library => library
