export * from "@ironflow/node/core"
