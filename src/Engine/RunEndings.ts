/** Who waits for which run to end. */
export class RunEndings {
  readonly #waiting = new Map<string, Set<() => void>>()

  /** Calls `listener` once, when the run ends. Returns what forgets it. */
  listen(runId: string, listener: () => void): () => void {
    let waiting = this.#waiting.get(runId)
    if (waiting === undefined) this.#waiting.set(runId, (waiting = new Set()))
    waiting.add(listener)
    return () => {
      const left = this.#waiting.get(runId)
      if (left?.delete(listener) === true && left.size === 0) this.#waiting.delete(runId)
    }
  }

  /** The run has ended: everybody who waits for it goes on. */
  announce(runId: string): void {
    const waiting = this.#waiting.get(runId)
    if (waiting === undefined) return
    this.#waiting.delete(runId)
    for (const listener of waiting) listener()
  }
}
