#!/usr/bin/env node
/** The `ironflow` command. */
import { boundHeap } from "./Cli/Heap.ts"

boundHeap()
// the heap limit must be set before the rest is loaded
await import("./Cli/Main.ts")
