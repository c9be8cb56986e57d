export * from "@ironflow/node/core/protocol"
