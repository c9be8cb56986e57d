import { type Noun, ok, type Spec } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64")
const inCarts = (key: string) => ({ variables: { bucket: "carts", key } })
const put = (rig: Rig, key: string, value: unknown, headers?: Record<string, string>) =>
  ok(rig, "PUT", `/api/v1/kv/buckets/carts/keys/${key}`, value, headers)

export const kv: Noun = {
  setUp: async (rig) => {
    await ok(rig, "POST", "/api/v1/kv/buckets", {
      name: "carts",
      description: "what is in them",
      history: 3,
      ttlSeconds: 60
    })
    await put(rig, "c-1", { items: [1, 2] })
    await put(rig, "c-1", { items: [1, 2, 3] })
    await put(rig, "c-2", "some text", { "content-type": "text/plain" })
    await put(rig, "shelf/c-3", 5)
    return {}
  },
  calls: {
    createBucket: {
      fresh: (_rig, _, n) => Promise.resolve({ name: `bucket-${n}` }),
      call: ({ name }) => ({
        body: { name, description: "new", ttlSeconds: 60, maxValueSize: 1000, maxBytes: 100_000, history: 3 }
      }),
      more: {
        "one that is there": () => ({ body: { name: "carts", history: 3, ttlSeconds: 60 } }),
        "one that is there with other settings": () => ({ body: { name: "carts", history: 4 } }),
        "an invalid name": () => ({ body: { name: "a b/c" } }),
        "a negative history": ({ name }) => ({ body: { name, history: -1 } }),
        "too much history": ({ name }) => ({ body: { name, history: 65 } }),
        "half a second": ({ name }) => ({ body: { name, ttl_seconds: 0.5 } })
      }
    },
    listBuckets: {
      pages: "query",
      fresh: async (rig, _, n) => {
        if (n === 1) await ok(rig, "POST", "/api/v1/kv/buckets", { name: "orders" })
        return {}
      },
      call: () => ({})
    },
    getBucket: { call: () => ({ variables: { bucket: "carts" } }) },
    deleteBucket: {
      fresh: async (rig, _, n) => {
        await ok(rig, "POST", "/api/v1/kv/buckets", { name: `old-${n}` })
        return { old: `old-${n}` }
      },
      call: ({ old = "" }) => ({ variables: { bucket: old } })
    },
    listKeys: {
      pages: "query",
      call: () => ({ variables: { bucket: "carts" } }),
      more: {
        "of a filter": () => ({ variables: { bucket: "carts" }, query: "filter=c-*&limit=5" }),
        "of an invalid filter": () => ({ variables: { bucket: "carts" }, query: "filter=" })
      }
    },
    getKey: {
      call: () => inCarts("c-1"),
      more: {
        "of text": () => inCarts("c-2"),
        "with a slash": () => inCarts("shelf/c-3"),
        "with dots": () => inCarts("../c-1")
      }
    },
    putKey: {
      free: ["someItems"],
      call: () => ({ ...inCarts("c-4"), body: { someItems: [1] } }),
      more: {
        "a number": () => ({ ...inCarts("c-4"), body: "5" }),
        text: () => ({ ...inCarts("c-4"), body: "five", headers: { "content-type": "text/plain" } }),
        bytes: () => ({
          ...inCarts("c-4"),
          body: Buffer.from([0, 255]),
          headers: { "content-type": "application/octet-stream" }
        }),
        "no content type": () => ({ ...inCarts("c-4"), body: "five", headers: { "content-type": "" } }),
        "that must not be there": () => ({ ...inCarts("c-1"), body: "5", headers: { "if-none-match": "*" } }),
        "that is not there": () => ({ ...inCarts("c-5"), body: "5", headers: { "if-none-match": "*" } }),
        "of a revision that is passed": () => ({
          ...inCarts("c-1"),
          body: "5",
          headers: { "if-match": "1" }
        }),
        "of the newest revision": () => ({ ...inCarts("c-1"), body: "5", headers: { "if-match": "2" } }),
        "of an invalid revision": () => ({
          ...inCarts("c-1"),
          body: "5",
          headers: { "if-match": "new" }
        }),
        "of any revision": () => ({ ...inCarts("c-1"), body: "5", headers: { "if-match": "*" } }),
        "both conditions": () => ({
          ...inCarts("c-1"),
          body: "5",
          headers: { "if-match": "1", "if-none-match": "*" }
        }),
        "a wildcard": () => ({ ...inCarts("c.*"), body: "5" }),
        "an empty key": () => ({ ...inCarts(""), body: "5" })
      }
    },
    deleteKey: {
      fresh: async (rig, _, n) => {
        await put(rig, `old-${n}`, 1)
        return { old: `old-${n}` }
      },
      call: ({ old = "" }) => inCarts(old),
      more: {
        "with its history": () => ({ ...inCarts("c-1"), query: "purge=true" }),
        "of another revision": () => ({ ...inCarts("c-2"), headers: { "if-match": "1" } }),
        "of an invalid revision": () => ({ ...inCarts("c-2"), headers: { "if-match": "new" } })
      }
    },
    keyHistory: {
      pages: "query",
      call: () => inCarts("c-1"),
      more: { "with a slash": () => inCarts("shelf/c-3") }
    },
    writeKeys: {
      call: () => ({
        variables: { bucket: "carts" },
        body: {
          writes: [
            { op: "put", key: "c-6", value: encoded({ a: 1 }), contentType: "application/json" },
            { op: "delete", key: "c-2" }
          ]
        }
      }),
      more: {
        "an update": () => ({
          variables: { bucket: "carts" },
          body: { writes: [{ op: "update", key: "c-1", value: encoded(1), revision: 2 }] }
        }),
        "an update that comes too late": () => ({
          variables: { bucket: "carts" },
          body: { writes: [{ op: "update", key: "c-1", value: encoded(1), revision: 1 }] }
        }),
        "a creation of what is there": () => ({
          variables: { bucket: "carts" },
          body: { writes: [{ op: "create", key: "c-1", value: encoded(1) }] }
        }),
        "something else": () => ({
          variables: { bucket: "carts" },
          body: { writes: [{ op: "swap", key: "c-1" }] }
        }),
        "a value that is no base64": () => ({
          variables: { bucket: "carts" },
          body: { writes: [{ op: "put", key: "c-1", value: "%" }] }
        }),
        "the same key twice": () => ({
          variables: { bucket: "carts" },
          body: { writes: [1, 2].map((n) => ({ op: "put", key: "c-1", value: encoded(n) })) }
        }),
        nothing: () => ({ variables: { bucket: "carts" }, body: { writes: [] } })
      }
    }
  }
}

const changing: Spec = {
  free: ["nested"],
  call: () => ({ variables: { name: "prices" }, body: { someVat: 0.2, nested: { a: 1 } } }),
  more: {
    "something else than an object": () => ({ variables: { name: "prices" }, body: "5" }),
    "a field set to null": () => ({ variables: { name: "prices" }, body: { someVat: null } }),
    "an invalid name": () => ({ variables: { name: "a b" }, body: {} })
  }
}

export const config: Noun = {
  setUp: async (rig) => {
    await ok(rig, "POST", "/api/v1/config/prices", { vat: 0.1, nested: { b: 2 } })
    await ok(rig, "POST", "/api/v1/config/colours", { red: 1 })
    return {}
  },
  calls: {
    setConfig: changing,
    patchConfig: changing,
    listConfigs: { call: () => ({}), pages: "query" },
    getConfig: { call: () => ({ variables: { name: "prices" } }) },
    deleteConfig: {
      fresh: async (rig) => {
        await ok(rig, "POST", "/api/v1/config/old", { a: 1 })
        return {}
      },
      call: () => ({ variables: { name: "old" } })
    }
  }
}

export const secrets: Noun = {
  setUp: async (rig) => {
    await ok(rig, "POST", "/api/v1/secrets", { name: "STRIPE_KEY", value: "sk_1" })
    await ok(rig, "POST", "/api/v1/secrets", { name: "MAIL_KEY", value: "mk_1" })
    return {}
  },
  calls: {
    listSecrets: { call: () => ({}), pages: "query" },
    setSecret: {
      call: () => ({ body: { name: "STRIPE_KEY", value: "sk_2" } }),
      more: {
        "a new one": () => ({ body: { name: "OTHER_KEY", value: "sk_3" } }),
        "an empty value": () => ({ body: { name: "OTHER_KEY", value: "" } }),
        "an invalid name": () => ({ body: { name: "a b", value: "sk_3" } })
      }
    },
    getSecret: { call: () => ({ variables: { name: "STRIPE_KEY" } }) },
    updateSecret: { call: () => ({ variables: { name: "STRIPE_KEY" }, body: { value: "sk_4" } }) },
    deleteSecret: {
      fresh: async (rig) => {
        await ok(rig, "POST", "/api/v1/secrets", { name: "OLD_KEY", value: "sk_1" })
        return {}
      },
      call: () => ({ variables: { name: "OLD_KEY" } })
    }
  }
}
