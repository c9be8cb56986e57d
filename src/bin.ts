#!/usr/bin/env node
/** The `ironflow` command. */
import { boundHeap } from "./Cli/HeapGrowth.ts"

boundHeap()
// the heap limit must be set before the rest is loaded
await import("./Cli/Main.ts")
