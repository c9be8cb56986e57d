/** What an append expects of its stream: a version, or that there is none yet, or that there is one. */
export type ExpectedVersion = number | "NO_STREAM" | "STREAM_EXISTS"
