/** Public internet addresses. The engine calls other addresses only if it is configured to. */
import { BlockList, isIP } from "node:net"

/**
 * Networks that are not public, with their sources: the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6
 * Special-Purpose Address Space" (RFC 6890), "IPv4 Multicast Address Space", "Internet Protocol Version 6 Address Space". All
 * special-purpose networks are here, except those that are globally reachable and have ordinary servers (192.31.196.0/24,
 * 192.52.193.0/24, 192.175.48.0/24, 2620:4f:8000::/48). Parts of a listed network have no separate row.
 */
const notPublic: ReadonlyArray<readonly [network: string, prefix: number, source: string]> = [
  ["0.0.0.0", 8, "this network, RFC 791"],
  ["10.0.0.0", 8, "private use, RFC 1918"],
  ["100.64.0.0", 10, "shared address space, RFC 6598"],
  ["127.0.0.0", 8, "loopback, RFC 1122"],
  ["169.254.0.0", 16, "link-local, RFC 3927"],
  ["172.16.0.0", 12, "private use, RFC 1918"],
  ["192.0.0.0", 24, "IETF protocol assignments, RFC 6890"],
  ["192.0.2.0", 24, "documentation, RFC 5737"],
  ["192.88.99.0", 24, "6to4 relay anycast, RFC 7526; 6a44 relay anycast, RFC 6751"],
  ["192.168.0.0", 16, "private use, RFC 1918"],
  ["198.18.0.0", 15, "benchmarking, RFC 2544"],
  ["198.51.100.0", 24, "documentation, RFC 5737"],
  ["203.0.113.0", 24, "documentation, RFC 5737"],
  ["224.0.0.0", 4, "multicast, RFC 5771"],
  ["240.0.0.0", 4, "reserved, RFC 1112; limited broadcast, RFC 919"],

  // global unicast is 2000::/3 and nothing else (RFC 4291). That leaves out any and loopback (::/127), addresses of IPv4 that are
  // compatible (::/96), mapped (::ffff:0:0/96, RFC 4291) or translated (::ffff:0:0:0/96, RFC 2765; 64:ff9b::/96, RFC 6052;
  // 64:ff9b:1::/48, RFC 8215), discard only (100::/64, RFC 6666), dummy (100:0:0:1::/64, RFC 9780), segment routing (5f00::/16,
  // RFC 9602), unique local (fc00::/7, RFC 4193), link-local (fe80::/10, RFC 4291), site-local (fec0::/10, RFC 3879) and
  // multicast (ff00::/8, RFC 4291)
  ["::", 3, "not global unicast, RFC 4291"],
  ["4000::", 2, "not global unicast, RFC 4291"],
  ["8000::", 1, "not global unicast, RFC 4291"],
  ["2001::", 23, "IETF protocol assignments, RFC 2928: Teredo (RFC 4380), benchmarking, ORCHID and others"],
  ["2001:db8::", 32, "documentation, RFC 3849"],
  ["2002::", 16, "6to4, RFC 3056"],
  ["3fff::", 20, "documentation, RFC 9637"]
]

// one list for each version of IP: in a list with a range of mapped addresses, Node.js would find every IPv4 address
const lists = { ipv4: new BlockList(), ipv6: new BlockList() }
for (const [network, prefix] of notPublic) {
  const version = isIP(network) === 4 ? "ipv4" : "ipv6"
  lists[version].addSubnet(network, prefix, version)
}

/** Whether the address (not a name) is a public internet address. */
export const isPublicAddress = (address: string): boolean => {
  // an address with a zone is link-local, and block lists do not know zones
  const version = address.includes("%") ? 0 : isIP(address)
  return (
    version !== 0 && (version === 6 ? !lists.ipv6.check(address, "ipv6") : !lists.ipv4.check(address, "ipv4"))
  )
}
