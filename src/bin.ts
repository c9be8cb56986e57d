#!/usr/bin/env node
/** The `ironflow` command. */
import process from "node:process"
import { boundHeap } from "./Cli/Heap.ts"

// Other commands end before it matters, and after a change of V8's flags Node compiles its own modules anew.
if (["serve", "dev", "worker"].some((name) => process.argv.includes(name))) boundHeap()
// the heap limit must be set before the rest is loaded
await import("./Cli/Main.ts")
