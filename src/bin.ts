#!/usr/bin/env node
/** The `ironflow` command. */
import { boundHeap } from "./Cli/Heap.ts"

boundHeap()
// what comes before counts for all that is loaded here
await import("./Cli/Main.ts")
