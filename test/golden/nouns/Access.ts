import { type Noun, ok, type Spec } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

const make = async (rig: Rig, path: string, body: object): Promise<string> =>
  (await ok(rig, "POST", `/api/v1/${path}`, body)).id
const rule = { name: "orders", effect: "allow", actions: "emit:*", resources: "event:order.*" }
const makeOrg = (rig: Rig) => make(rig, "orgs", { name: "Acme" })
const makeRole = (rig: Rig) => make(rig, "roles", { name: "deployer" })
const makePolicy = (rig: Rig) => make(rig, "policies", rule)
const makeKey = (rig: Rig) => make(rig, "apikeys", { name: "ci", role_ids: ["role_viewer"] })

const byId: Spec = { call: ({ id = "" }) => ({ variables: { id } }) }
const newId = (make: (rig: Rig) => Promise<string>): Required<Pick<Spec, "fresh">> => ({
  fresh: async (rig) => ({ id: await make(rig) })
})

// after the first key every request needs one: only the engines for keys have keys
export const apikeys: Noun = {
  setUp: async (rig) => {
    const first = await ok(rig, "POST", "/api/v1/apikeys", {
      name: "operator",
      env_id: "*",
      role_ids: ["role_admin"]
    })
    rig.key = first.key
    return { id: await makeKey(rig), secret: first.key }
  },
  calls: {
    listApiKeys: { call: () => ({}), pages: "query" },
    createApiKey: {
      call: () => ({
        body: { name: "ci", env_id: "env_default", role_ids: ["role_viewer"], expires_in: "1h" }
      }),
      more: {
        "a number of seconds": () => ({ body: { name: "ci", expires_in: 60 } }),
        "a role that is not there": () => ({ body: { name: "ci", role_ids: ["role_none"] } }),
        "all environments": () => ({ body: { name: "ci", env_id: "*" } }),
        "an invalid environment": () => ({ body: { name: "ci", env_id: "env_a b" } }),
        "an invalid time": () => ({ body: { name: "ci", expires_in: "soon" } }),
        "a time that is negative": () => ({ body: { name: "ci", expires_in: -1 } }),
        "an empty name": () => ({ body: { name: "" } })
      }
    },
    getApiKey: byId,
    rotateApiKey: {
      ...newId(makeKey),
      call: ({ id = "" }) => ({ variables: { id }, body: { overlap: "1h" } }),
      more: {
        "a number of seconds": ({ id = "" }) => ({ variables: { id }, body: { overlap: 60 } }),
        "an invalid overlap": ({ id = "" }) => ({ variables: { id }, body: { overlap: "soon" } })
      }
    },
    deleteApiKey: { ...byId, ...newId(makeKey) },
    accessLog: {
      pages: "query",
      fresh: async (rig, _, n) => {
        if (n > 1) return {}
        const [role, policy] = [await makeRole(rig), await makePolicy(rig)]
        await ok(rig, "POST", `/api/v1/roles/${role}/policies`, { policy_id: policy })
        await ok(rig, "DELETE", `/api/v1/roles/${role}`)
        return { role, policy }
      },
      call: () => ({})
    }
  }
}

export const orgs: Noun = {
  setUp: async (rig) => ({ id: await makeOrg(rig) }),
  calls: {
    listOrgs: { call: () => ({}), pages: "query" },
    createOrg: {
      call: () => ({ body: { name: "Acme" } }),
      more: { "an empty name": () => ({ body: { name: "" } }) }
    },
    getOrg: {
      ...byId,
      more: { "the one that is there from the start": () => ({ variables: { id: "org_default" } }) }
    },
    updateOrg: { call: ({ id = "" }) => ({ variables: { id }, body: { name: "Acme 2" } }) },
    deleteOrg: {
      ...byId,
      ...newId(makeOrg),
      more: { "the one that is there from the start": () => ({ variables: { id: "org_default" } }) }
    }
  }
}

export const roles: Noun = {
  setUp: async (rig) => {
    const [id, policy] = [await makeRole(rig), await makePolicy(rig)]
    await ok(rig, "POST", `/api/v1/roles/${id}/policies`, { policy_id: policy })
    return { id, policy }
  },
  calls: {
    listRoles: {
      call: () => ({ query: "org_id=org_default" }),
      pages: "query",
      more: {
        all: () => ({}),
        "of an organization that is not there": () => ({ query: "org_id=org_none" }),
        "the other case of letters": () => ({ query: "orgId=org_none" })
      }
    },
    createRole: {
      call: () => ({ body: { name: "deployer", org_id: "org_default" } }),
      more: {
        "of an organization that is not there": () => ({ body: { name: "deployer", org_id: "org_none" } })
      }
    },
    getRole: { ...byId, more: { "the administrator": () => ({ variables: { id: "role_admin" } }) } },
    updateRole: {
      call: ({ id = "" }) => ({ variables: { id }, body: { name: "packer" } }),
      more: { "the administrator": () => ({ variables: { id: "role_admin" }, body: { name: "packer" } }) }
    },
    listRolePolicies: {
      ...byId,
      pages: "query",
      more: { "of the viewer": () => ({ variables: { id: "role_viewer" } }) }
    },
    assignPolicy: {
      call: ({ id = "", policy }) => ({ variables: { id }, body: { policy_id: policy } }),
      more: {
        "a policy that is not there": ({ id = "" }) => ({
          variables: { id },
          body: { policy_id: "policy_none" }
        }),
        "to the administrator": ({ policy }) => ({
          variables: { id: "role_admin" },
          body: { policy_id: policy }
        })
      }
    },
    removePolicy: {
      fresh: async (rig, { id, policy }) => {
        await ok(rig, "POST", `/api/v1/roles/${id}/policies`, { policy_id: policy })
        return {}
      },
      call: ({ id = "", policy = "" }) => ({ variables: { id, policyId: policy } })
    },
    deleteRole: {
      ...byId,
      ...newId(makeRole),
      more: { "the administrator": () => ({ variables: { id: "role_admin" } }) }
    }
  }
}

export const policies: Noun = {
  setUp: async (rig) => ({ id: await makePolicy(rig) }),
  calls: {
    listPolicies: {
      call: () => ({ query: "org_id=org_default" }),
      pages: "query",
      more: { all: () => ({}), "of an organization that is not there": () => ({ query: "org_id=org_none" }) }
    },
    createPolicy: {
      call: () => ({
        body: { ...rule, condition: 'request.environment == "default"', org_id: "org_default" }
      }),
      more: {
        "an invalid action": () => ({ body: { ...rule, actions: "fly:*" } }),
        "an invalid resource": () => ({ body: { ...rule, resources: "moon:*" } }),
        "an invalid effect": () => ({ body: { ...rule, effect: "maybe" } }),
        "an invalid condition": () => ({ body: { ...rule, condition: "request. ==" } }),
        "several of them": () => ({ body: { ...rule, actions: "emit:event, run:read", resources: "*" } })
      }
    },
    getPolicy: byId,
    updatePolicy: {
      call: ({ id = "" }) => ({
        variables: { id },
        body: { ...rule, name: "fewer orders", condition: 'request.environment == "default"' }
      }),
      more: {
        "an invalid action": ({ id = "" }) => ({ variables: { id }, body: { actions: "fly:*" } }),
        "no condition any more": ({ id = "" }) => ({ variables: { id }, body: { condition: "" } })
      }
    },
    deletePolicy: { ...byId, ...newId(makePolicy) }
  }
}
