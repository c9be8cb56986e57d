/**
 * The version that an append expects of its stream: a number, `NO_STREAM` for a new stream, or `STREAM_EXISTS` for any existing
 * one.
 */
export type ExpectedVersion = number | "NO_STREAM" | "STREAM_EXISTS"
