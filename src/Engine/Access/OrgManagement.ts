/** Manages organizations: each method checks its input, and then runs one program of the store. */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { OrgsApi } from "../../Client/Orgs.ts"
import { CreateOrg, type Organization, UpdateOrg } from "../../Protocol/Access.ts"
import { OrgNotFoundError } from "../../Errors.ts"
import { memberReader } from "../../Protocol/ServerCodec.ts"
import { checkName } from "../../Limits.ts"
import type { OrgRecord } from "../Records/AccessRecords.ts"
import * as OrgRows from "./OrgRows.ts"

import type { ManagingCaller } from "./ManagingCaller.ts"
import { notAnObject, findRecord, toIsoTime, readOptionalName, type Unchecked } from "./AccessInput.ts"

const take = memberReader(CreateOrg, notAnObject("An organization"))
const takeChanges = memberReader(UpdateOrg, notAnObject("An organization"))

export const make = (manager: ManagingCaller): Unchecked<OrgsApi<EffectKind>> => {
  const { access, by, checkNotBound, maySee, store } = manager
  return {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("An organization")
          return checkName("name of the organization", take(input).name)
        }),
        (name) => Effect.map(store.write(OrgRows.createOrg(name, by)), toOrganization)
      ),
    list: () =>
      Effect.sync(() => [...access.orgs.values()].filter(maySee("org:read", "org")).map(toOrganization)),
    get: (id) => checked(() => toOrganization(findRecord(access.orgs, id, "organization", OrgNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("An organization")
          return {
            id: checkName("id of the organization", id),
            name: readOptionalName("name of the organization", takeChanges(input).name)
          }
        }),
        ({ id, name }) => Effect.map(store.write(OrgRows.updateOrg(id, name, by)), toOrganization)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("An organization")
          return checkName("id of the organization", id)
        }),
        (id) => store.write(OrgRows.deleteOrg(id, by))
      )
  }
}

const toOrganization = ({ id, name, createdAt, updatedAt }: OrgRecord): Organization => ({
  id,
  name,
  created_at: toIsoTime(createdAt),
  updated_at: toIsoTime(updatedAt)
})
