/** Makes a database of this name anew on the server at `PGURL`; resolves to its URL. */
export function freshDb(name: string): Promise<string>

/** A connection that looks at a database. */
export function tools(url: string): Promise<{
  disk(): Promise<{ readonly bytes: number }>
  end(): Promise<void>
}>
