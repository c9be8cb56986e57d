/** Gives a handler the secrets that its function lists. */

export interface SecretsClient {
  /** Returns the value of the secret. Throws when the handler was not given a secret of this name. */
  get(name: string): string
  /** Whether the handler was given a secret of this name. */
  has(name: string): boolean
}

/** Makes a client that reads the given secrets. */
export const createSecretsClient = (secrets: Readonly<Record<string, string>> = {}): SecretsClient => {
  const values = new Map(Object.entries(secrets))
  return {
    get(name) {
      const value = values.get(name)
      if (value === undefined) {
        throw new Error(
          `Secret "${name}" is not available. List it in the function's \`secrets\`, and store it in the engine`
        )
      }
      return value
    },
    has: (name) => values.has(name)
  }
}
