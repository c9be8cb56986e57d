/** The workloads of `--cpu`: the kind of runs, how many are in flight, how many warm up, and how many are measured. */
export const workloads = {
  W1: { kind: "s1", inFlight: 1, warm: 500, runs: 1000 },
  W3_64: { kind: "s3", inFlight: 64, warm: 3000, runs: 5000 },
  W3_256: { kind: "s3", inFlight: 256, warm: 3000, runs: 5000 }
} as const

/** For `--cold`: measures the first runs of a process. */
export const cold = { warm: 0, runs: 2000 }

export const isWorkload = (name: string): name is keyof typeof workloads => Object.hasOwn(workloads, name)
