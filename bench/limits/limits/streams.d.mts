export interface BareStreams {
  append(entity: string, data: unknown, expected?: number): Promise<number | undefined>
  versionOf(entity: string): Promise<number>
  read(entity: string, at: number, limit: number): Promise<Array<{ version: number; data: unknown }>>
  close(): void
}
export function openStreams(dir: string): BareStreams
