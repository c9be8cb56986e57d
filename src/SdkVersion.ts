/** The version of this package. Workers announce it, and servers and commands say it. */
export const SDK_VERSION = "0.8.0"
