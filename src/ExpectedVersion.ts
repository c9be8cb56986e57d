/**
 * The version that an append expects its stream to have: a number, `NO_STREAM` for a new stream, or
 * `STREAM_EXISTS` for any stream that exists.
 */
export type ExpectedVersion = number | "NO_STREAM" | "STREAM_EXISTS"
