/** Secrets in handlers. */

export interface SecretsClient {
  /** Returns the value of the secret. Throws when the function does not have it. */
  get(name: string): string
  /** Whether the function has the secret. */
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
          `Secret "${name}" is not available. List it in the function's \`secrets\` and store it on the server`
        )
      }
      return value
    },
    has: (name) => values.has(name)
  }
}
