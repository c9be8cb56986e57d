/** The version of this package. Workers send it to the engine; the engine's server and the command report it. */
export const SDK_VERSION = "0.8.0"
