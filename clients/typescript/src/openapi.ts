// Made by `npm run generate` from crates/groundswell-web/openapi.json. Do not change it by hand.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The dashboard */
        get: operations["getDashboard"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/assets/{file}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A file of the dashboard */
        get: operations["getAsset"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/open": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens the dashboard by a one-time link
         * @description The code is valid once, for five minutes. A request that only looks ahead (`Sec-Purpose: prefetch`) does not use it up.
         */
        get: operations["open"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document */
        get: operations["getOpenApi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/node": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The node */
        get: operations["getNode"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/peers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The peers that are connected or whose state is followed */
        get: operations["listPeers"];
        put?: never;
        /** Remembers the addresses of a ticket */
        post: operations["addPeer"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The machines: a manager's, or the machine itself */
        get: operations["listMachines"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A machine and its status */
        get: operations["getMachine"];
        put?: never;
        post?: never;
        /**
         * Releases a machine, from either side
         * @description What a manager has of the machine is deleted; the machine goes on with a new document, and its streams get a `reset`.
         */
        delete: operations["releaseMachine"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/claims": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Claims of this run: those of a manager, or those that a machine is asked */
        get: operations["listClaims"];
        put?: never;
        /** Begins to claim the machine of a ticket (a manager's first step) */
        post: operations["beginClaim"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/claims/{claim}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A claim */
        get: operations["getClaim"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/claims/{claim}/answer": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Says whether both sides show the same PIN (the second step, at either side)
         * @description Waits until the other side has answered too and the pair is stored: a minute at most. A claim that came to nothing is a problem `claim-failed`.
         */
        post: operations["answerClaim"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/pairing": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether this machine takes claims, and who has claimed it in vain */
        get: operations["getPairing"];
        put?: never;
        /**
         * Opens this machine for claims, for a time
         * @description A machine takes claims only while a person has opened it: by this, by `groundswell claims`, or by a button of its program; and from a manager that has its ticket with a one-time secret. Claims that were in vain before are forgiven.
         */
        post: operations["openPairing"];
        /**
         * Closes this machine for claims before its time is over
         * @description Claims under way go on. While `groundswell claims` or a program waits for one, the machine stays open.
         */
        delete: operations["closePairing"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/pairing/ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Makes a ticket with a one-time secret
         * @description A claim with this ticket is let in though the machine is not open for others, until one has made a pair. The PIN is compared all the same. It takes the place of the ticket with a secret before, and ends with the process.
         */
        post: operations["makeClaimTicket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}/spaces": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The spaces that were ever used */
        get: operations["listSpaces"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}/entries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Entries, in the order of their keys' bytes */
        get: operations["listEntries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}/entry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The value of a key */
        get: operations["getEntry"];
        /** Gives a key a value: the body's bytes, whatever its content type */
        put: operations["putEntry"];
        post?: never;
        /** Deletes a key */
        delete: operations["deleteEntry"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}/delivered": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether all that was written on this node, in any space, is at the other side: durable there, and seen */
        get: operations["isDelivered"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/machines/{machine}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Follows entries: put, delete, left, caught_up, reset, ended */
        get: operations["streamEntries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publications": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What this node publishes */
        get: operations["listPublications"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Reads a publication */
        get: operations["readPublication"];
        /**
         * Publishes the default rock, if nothing is published there yet
         * @description `lake` is required where nothing is published yet.
         */
        put: operations["openPublication"];
        post?: never;
        /** Ends a path: its history goes, readers are told */
        delete: operations["killPublication"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication/waves": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Gives waves: all of them, or none
         * @description Publishes the path if it is not yet; then `lake` is required.
         */
        post: operations["give"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Follows a publication of this node: update, caught_up, killed, ended */
        get: operations["streamPublication"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication/rule": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /** Changes what is kept of a publication */
        patch: operations["changeRule"];
        trace?: never;
    };
    "/api/v1/publication/wipe": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a rock now, and drops the rest */
        post: operations["wipe"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication/access": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Changes who may read a path, published or not */
        post: operations["changeAccess"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/publication/fork": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begins an empty path with the state and the history of another of the same agent */
        post: operations["fork"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/subscriptions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What this node follows */
        get: operations["listSubscriptions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/subscription": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Reads a replica */
        get: operations["readSubscription"];
        /**
         * Follows a source, now and after every restart
         * @description `lake` is required where the source is not followed yet.
         */
        put: operations["surf"];
        post?: never;
        /** Stops following a source, and drops its replica */
        delete: operations["quit"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/subscription/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follows a source: update, caught_up, freshness, not_available, killed, ended
         * @description A source that is not followed yet is followed from then on, until it is quit; `lake` is required then.
         */
        get: operations["streamSubscription"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/subscription/rule": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /** Changes what is kept of a replica here */
        patch: operations["changeReplicaRule"];
        trace?: never;
    };
    "/api/v1/subscription/wipe": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a rock of a replica now, and drops the rest here */
        post: operations["wipeReplica"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/subscription/copy": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begins an own, secret publication with a replica's state and history */
        post: operations["copy"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follows several topics by one connection
         * @description To follow other topics, open another stream with `from` set to the last id, and close this one when it has caught up: topics that are in both go on where they were, in whatever order they stand. A topic that cannot be followed any more ends with `ended`, the others go on. The id has at most 4 KiB: cursors of at most 100 machines and paths, those that moved last; what has no place in it begins with a `reset` after a reconnection. Topics without a cursor (`node`, `machines`, `claims`, `publications`, `subscriptions`) begin with all there is, every time, then `caught_up`: what was held before and did not come again is there no more. `publication` does not follow a path that is not there: it ends with `no-state`.
         */
        get: operations["stream"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The public key of a peer. */
        Id: string;
        /**
         * @description Which side wrote an entry.
         * @enum {string}
         */
        Author: "machine" | "manager";
        /** @description The name of a lake. */
        Lake: string;
        /** @description RFC 9457. */
        Problem: {
            /**
             * Format: uri
             * @description What is wrong, in a form that does not change: `urn:groundswell:problem:` and a word of docs/http.md.
             */
            type: string;
            title: string;
            status: number;
            /** @description What is wrong here, and what to do. */
            detail: string;
            /** @description Which wave was refused, from 0 (`wave-refused`). */
            index?: number;
        };
        Node: {
            id: components["schemas"]["Id"];
            /** @description The node's own. */
            ticket: components["schemas"]["Ticket"];
            /** @enum {string} */
            role: "peer" | "machine" | "manager";
            /** @description Of the program. */
            version: string;
            /** @description When this interface was started, by the node's clock as it is now. */
            started_ms: number;
            /** @description The node's clock. */
            now_ms: number;
            /** @description The peers that are connected. */
            peers: components["schemas"]["Id"][];
            /** @description Metrics since the start, for states and for keys. Those that end in `_now` say how many there are. A time has five: how often it was measured (`_count`), its sum, its median, its 99th percentile and the longest, in nanoseconds. */
            metrics: {
                [key: string]: number;
            };
            http: components["schemas"]["HttpStatus"];
            /** @description Tells one run of the node from another. */
            run: string;
        };
        HttpStatus: {
            /** @description Connections now. */
            connections: number;
            /** @description Open event streams now. */
            streams: number;
            /** @description Requests and connections that were refused since the start. */
            refused: number;
        };
        Peer: {
            id: components["schemas"]["Id"];
            connected: boolean;
        };
        Machine: {
            id: components["schemas"]["Id"];
            manager: components["schemas"]["Id"] | null;
            /** @description Whether this node is the machine. */
            own: boolean;
            /**
             * @description Of the other side: the machine's for a manager, the manager's for a machine. `not_known`: it answers, and does not know this pair.
             * @enum {string}
             */
            link: "unclaimed" | "connecting" | "online" | "offline" | "not_known" | "released";
            /** @description Since when it is offline, or does not know the pair; of one that fell silent, since it did. */
            since_ms: number | null;
            /** @description Whether everything that the other side had is here, and what follows is live. */
            current: boolean;
            /** @description When that was last so, if it was once and is not now. */
            current_at_ms: number | null;
            /** @description Since when something that was written on this node is not at the other side, if that has lasted for a second. */
            undelivered_since_ms: number | null;
            /** @description When it was noticed that this node's data directory went back in time, as a restored backup does, if it did. */
            went_back_at_ms: number | null;
            /** @description False from then on until both sides have agreed. Nothing counts as delivered meanwhile. */
            agreed: boolean;
            /** @description How many writes of this node have lost to later ones of its own, which it had lost and has taken back. */
            overruled: number;
            /** @description By how much the other side's wall clock is ahead. */
            skew_ms: number | null;
            /** @description Another device has the same identity. */
            duplicate: boolean;
            /** @description What hinders. */
            problem: string | null;
            reconciled: number;
            /** @description Of 100,000, deleted ones included. */
            keys_used: number;
            /** @description What keys and values take. */
            bytes_used: number;
            /** @description What this side lets them take at most: the smaller one of the budgets of both sides. */
            bytes_limit: number;
            spaces: components["schemas"]["Space"][];
        };
        /** @description `machine` is known on a manager's side, `manager` on a machine's side once it is claimed. */
        Claim: {
            claim: number;
            /** @enum {string} */
            state: "pending" | "answered" | "claimed" | "refused" | "failed";
            /** @description Six digits, to be compared with the other side's. */
            pin: string;
            machine: components["schemas"]["Id"] | null;
            manager: components["schemas"]["Id"] | null;
            begun_ms: number;
            /** @description Why it failed. */
            reason: string | null;
        };
        Pairing: {
            /** @description Whether any manager may claim it. */
            open: boolean;
            /** @description For how long, where it was opened for a time. */
            open_ms: number | null;
            /** @description For how long a ticket's one-time secret admits a claim, where there is one. */
            ticket_ms: number | null;
            /** @description How many claims more may be in vain before all are refused. */
            attempts_left: number;
            /** @description Who has claimed it in vain, those with the most claims first. */
            in_vain: {
                manager: components["schemas"]["Id"];
                claims: number;
            }[];
        };
        /** @description Of `key` and `key_base64` there is one; of `value` and `value_base64` one, or none where values were left out. */
        Entry: {
            /** @description Where it is UTF-8. */
            key?: string;
            /** @description Otherwise. */
            key_base64?: string;
            /** @description Where it is UTF-8. */
            value?: string;
            /** @description Otherwise. */
            value_base64?: string;
            author: components["schemas"]["Author"];
            /** @description The writer's wall clock, in milliseconds since 1970; for people. */
            timestamp: number;
        };
        Rule: {
            frequency: ("auto" | "never") | number;
            /** @description How many waves back rocks are kept; null: the oldest, the newest, and every wave. */
            horizon: number | null;
        };
        RuleChange: {
            /** @description When rocks are made: by the node's own rule, never, or after so many waves. */
            frequency?: ("auto" | "never") | number;
            /** @description How many waves back rocks are kept; null: as far as there is anything. */
            horizon?: number | null;
        };
        /** @description `public`, `secret`, or the ids of those who may read. */
        Access: ("public" | "secret") | components["schemas"]["Id"][];
        Given: {
            aeon: components["schemas"]["Aeon"];
        };
        Source: {
            peer: components["schemas"]["Id"];
            agent: components["schemas"]["Name"];
            path: components["schemas"]["Path"];
        };
        /** @enum {string} */
        Freshness: "connecting" | "live" | "offline" | "not_available" | "killed" | "refused" | "unusable" | "diverged";
        Publication: {
            agent: components["schemas"]["Name"];
            path: components["schemas"]["Path"];
            lake: components["schemas"]["Lake"] | null;
            /** @description None where it was killed. */
            aeon: number | null;
            /** @description Over the last second; null before it is known. */
            waves_per_second: number | null;
            kept_waves: number;
            kept_rocks: number;
            /** @description Streams that read it now, local and remote. */
            readers: number;
            /** @description How many waves the slowest of these readers has yet to get, or to skip. */
            reader_lag: number;
            rule: components["schemas"]["Rule"] | null;
            access: components["schemas"]["Access"] | null;
            killed: boolean;
        };
        Subscription: {
            source: components["schemas"]["Source"];
            lake: components["schemas"]["Lake"] | null;
            aeon: number | null;
            waves_per_second: number | null;
            kept_waves: number;
            kept_rocks: number;
            /** @description Local streams that read it now. */
            readers: number;
            /** @description How many waves the slowest of these readers has yet to get, or to skip. */
            reader_lag: number;
            rule: components["schemas"]["Rule"] | null;
            freshness: components["schemas"]["Freshness"];
            stale: boolean;
            detail: string | null;
            /** @description Since when the source is out of reach. */
            since_ms: number | null;
            current_at_ms: number | null;
            /** @description For how long the state may have been behind; 0 while it is live; null if it never was current. */
            lag_ms: number | null;
        };
        State: {
            agent: components["schemas"]["Name"];
            path: components["schemas"]["Path"];
            source: components["schemas"]["Id"] | null;
            lake: components["schemas"]["Lake"];
            aeon: number | null;
            /** @description Of a log, an array of strings; of a sum, a number; of json, the document. null where there is no state yet, as `aeon` is. */
            rock: unknown;
            stale: boolean;
            /** @description What the agent's handler said when it failed on it. */
            fail: string | null;
        };
        /** @description The key has this entry now. */
        PutEvent: {
            /** @description Where it is UTF-8. */
            key?: string;
            /** @description Otherwise. */
            key_base64?: string;
            /** @description Where it is UTF-8. */
            value?: string;
            /** @description Otherwise. */
            value_base64?: string;
            author: components["schemas"]["Author"];
            /** @description The writer's wall clock, in milliseconds since 1970; for people. */
            timestamp: number;
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "put";
            /** @description Whether it came after `caught_up`. */
            live: boolean;
            /** @description The place of this event, as its id in a stream of its own. */
            cursor: components["schemas"]["Cursor"];
            machine: components["schemas"]["Id"];
            /** @description The name of the space, where it is not the default one. */
            space?: components["schemas"]["Name"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The key was deleted. */
        DeleteEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "delete";
            /** @description Where it is UTF-8. */
            key?: string;
            /** @description Otherwise. */
            key_base64?: string;
            author: components["schemas"]["Author"];
            timestamp: number;
            live: boolean;
            /** @description The place of this event, as its id in a stream of its own. */
            cursor: components["schemas"]["Cursor"];
            machine: components["schemas"]["Id"];
            /** @description The name of the space, where it is not the default one. */
            space?: components["schemas"]["Name"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The key has an entry still, which does not match any more. */
        LeftEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "left";
            /** @description Where it is UTF-8. */
            key?: string;
            /** @description Otherwise. */
            key_base64?: string;
            live: boolean;
            /** @description The place of this event, as its id in a stream of its own. */
            cursor: components["schemas"]["Cursor"];
            machine: components["schemas"]["Id"];
            /** @description The name of the space, where it is not the default one. */
            space?: components["schemas"]["Name"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Forget what you hold of this machine in this topic; the present state follows, up to `caught_up`. */
        ResetEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "reset";
            /** @enum {string} */
            reason: "other_epoch" | "snapshot_unfinished" | "unknown_cursor";
            /** @description The place of this event, as its id in a stream of its own. */
            cursor: components["schemas"]["Cursor"];
            machine: components["schemas"]["Id"];
            /** @description The name of the space, where it is not the default one. */
            space?: components["schemas"]["Name"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Everything is here; what follows is live. With `machine`: of its entries; with `aeon`: of a path; with `machines`: of all machines that there were at the beginning (topic `kv?machine=*`). With none of them: of all that the topic lists. */
        CaughtUpEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "caught_up";
            /** @description The place of this event, as its id in a stream of its own. */
            cursor?: components["schemas"]["Cursor"];
            machine?: components["schemas"]["Id"];
            /** @description The name of the space, where it is not the default one. */
            space?: components["schemas"]["Name"];
            aeon?: components["schemas"]["Aeon"];
            rock?: unknown;
            /** @description The machines that there are: what a page holds of others is to be forgotten. */
            machines?: components["schemas"]["Id"][];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The state changed. */
        UpdateEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "update";
            aeon: components["schemas"]["Aeon"];
            /** @description The wave that led here. Without it the state was replaced by a rock. */
            wave?: unknown;
            rock?: unknown;
            live: boolean;
            stale: boolean;
            /** @description The place of this event, as its id in a stream of its own. */
            cursor: components["schemas"]["Cursor"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description There is nothing there for us; it begins by itself. */
        NotAvailableEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "not_available";
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The path has ended for us; it may begin again by itself. */
        KilledEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "killed";
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description What is known of the source changed. */
        FreshnessEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "freshness";
            state: components["schemas"]["Freshness"];
            since_ms?: number;
            detail?: string;
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The stream ends, or, in /stream with `topic`, the topic does. Nothing comes after it. */
        EndedEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "ended";
            /** @description `shut_down`, `released`, `quit`, `failed`, `storage`, `other`; `topics_ended` for a stream all of whose topics have ended; for a topic that cannot be followed, the word of its problem, as `unknown-machine`. */
            reason: string;
            detail?: string;
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The machine is not this manager's any more: forget what you hold of it. */
        GoneEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "gone";
            machine: components["schemas"]["Id"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Topic `machines`: this machine is so now. */
        MachineEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "machine";
            machine: components["schemas"]["Machine"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
            /** @description What the node's clock showed when this was said, and by which its moments are told. */
            now_ms: components["schemas"]["Milliseconds"];
        };
        /** @description Topic `claims`: this claim is so now. */
        ClaimEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "claim";
            claim: components["schemas"]["Claim"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
            /** @description What the node's clock showed when this was said, and by which its moments are told. */
            now_ms: components["schemas"]["Milliseconds"];
        };
        /** @description Topic `claims`, of a machine: whether it takes claims is so now. */
        PairingEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "pairing";
            pairing: components["schemas"]["Pairing"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
            /** @description What the node's clock showed when this was said, and by which its moments are told. */
            now_ms: components["schemas"]["Milliseconds"];
        };
        /** @description Topic `node`: when something has changed but the clock, once a second at most; counters and addresses every 5 s, and with a change. */
        NodeEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "node";
            node: components["schemas"]["Node"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Topic `publications`: it is so now; told when it changes, once a second at most. */
        PublicationEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "publication";
            publication: components["schemas"]["Publication"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Topic `publications`: it is there no more. */
        PublicationGoneEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "publication_gone";
            agent: components["schemas"]["Name"];
            path: components["schemas"]["Path"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description Topic `subscriptions`: it is so now; told when it changes, once a second at most. */
        SubscriptionEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "subscription";
            subscription: components["schemas"]["Subscription"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
            /** @description What the node's clock showed when this was said, and by which its moments are told. */
            now_ms: components["schemas"]["Milliseconds"];
        };
        /** @description Topic `subscriptions`: it is not followed any more. */
        SubscriptionGoneEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "subscription_gone";
            source: components["schemas"]["Source"];
            /** @description Which topic, from 0; only in /stream. */
            topic?: number;
        };
        /** @description The first event of every stream. */
        HelloEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "hello";
            node: components["schemas"]["Id"];
            /** @description When this interface was started, by the node's clock as it is now. */
            started_ms: number;
            /** @description How often a heartbeat comes at least. Three of them late: the node is gone. */
            heartbeat_ms: number;
            /** @description Tells one run of the node from another. */
            run: string;
        };
        /** @description A sign of life. It has no id. */
        HeartbeatEvent: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            type: "heartbeat";
            now_ms: number;
        };
        /** @description The `data` of a server-sent event: one line of JSON. The event's name is its `type`. */
        Event: components["schemas"]["PutEvent"] | components["schemas"]["DeleteEvent"] | components["schemas"]["LeftEvent"] | components["schemas"]["ResetEvent"] | components["schemas"]["CaughtUpEvent"] | components["schemas"]["UpdateEvent"] | components["schemas"]["NotAvailableEvent"] | components["schemas"]["KilledEvent"] | components["schemas"]["FreshnessEvent"] | components["schemas"]["EndedEvent"] | components["schemas"]["GoneEvent"] | components["schemas"]["MachineEvent"] | components["schemas"]["ClaimEvent"] | components["schemas"]["PairingEvent"] | components["schemas"]["NodeEvent"] | components["schemas"]["PublicationEvent"] | components["schemas"]["PublicationGoneEvent"] | components["schemas"]["SubscriptionEvent"] | components["schemas"]["SubscriptionGoneEvent"] | components["schemas"]["HelloEvent"] | components["schemas"]["HeartbeatEvent"];
        /** @description `/seg/seg`: 1 to 16 segments of 1 to 255 bytes, without control characters; none is `*`. */
        Path: string;
        /** @description A name: 1 to 64 bytes, without `/` and control characters. */
        Name: string;
        /** @description A ticket: the id of a peer and the addresses where it can be reached. The id alone is a ticket without addresses. */
        Ticket: string;
        /** @description A machine's ticket, for a claim: with a one-time secret it has a dot and 32 hexadecimal digits more. */
        ClaimTicket: string;
        /** @description A place in a stream. */
        Cursor: string;
        /** @description The name of a space: at most 64 bytes, without `/` and control characters. The default space has the empty name. */
        Space: string;
        /** @description Milliseconds since 1970. */
        Milliseconds: number;
        /** @description How many waves a state has seen. */
        Aeon: number;
        /** @description One event of a stream. The name of the event is the `type` of its data. */
        ServerSentEvent: {
            /** @enum {string} */
            event: "put" | "delete" | "left" | "reset" | "caught_up" | "update" | "not_available" | "killed" | "freshness" | "ended" | "gone" | "machine" | "claim" | "pairing" | "node" | "publication" | "publication_gone" | "subscription" | "subscription_gone" | "hello" | "heartbeat";
            /** @description One line of JSON. */
            data: string;
            /** @description Where the reader stands with this event: give it as `from`. */
            id?: string;
            /**
             * @description How long to wait before connecting again, in milliseconds; with the first event.
             * @constant
             */
            retry?: 1000;
        };
    };
    responses: {
        /** @description The request is malformed. `bad-request`. */
        BadRequest: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description No valid token or session. `no-token`. */
        NoToken: {
            headers: {
                "WWW-Authenticate": "Bearer";
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Not allowed. `foreign-origin`. */
        ForeignOrigin: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The request took too long to arrive. `too-slow`. */
        TooSlow: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description It is too large. `too-large`. */
        TooLarge: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The address is too long. `address-too-long`. */
        AddressTooLong: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The request names another host. `foreign-host`. */
        ForeignHost: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Too many at once. `too-many-requests`. */
        TooManyRequests: {
            headers: {
                /** @description In seconds. */
                "Retry-After": number;
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The head of the request is too large. `head-too-large`. */
        HeadTooLarge: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Something failed here. `internal`. */
        Internal: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Something failed here. `internal`, `storage`. */
        Failed: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The node is shut down. `shut-down`. */
        ShutDown: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `not-found`. */
        NotFound: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Not allowed. `bad-code`, `foreign-origin`. */
        BadCodeOrForeignOrigin: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `unknown-peer`. */
        UnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `unknown-machine`. */
        UnknownMachine: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `wrong-role`. */
        WrongRole: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `not-claimed`, `wrong-role`. */
        NotClaimedOrWrongRole: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Too many at once. `too-many-claims`, `too-many-requests`. */
        TooManyClaimsOrTooManyRequests: {
            headers: {
                /** @description In seconds. */
                "Retry-After": number;
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `unknown-claim`. */
        UnknownClaim: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `claim-failed`, `claim-over`. */
        ClaimFailedOrClaimOver: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The request is malformed. `bad-request`, `key-too-long`. */
        BadRequestOrKeyTooLong: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description It is too large. `too-large`, `value-too-large`. */
        TooLargeOrValueTooLarge: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Too many at once. `too-many-requests`, `too-many-streams`. */
        TooManyRequestsOrTooManyStreams: {
            headers: {
                /** @description In seconds. */
                "Retry-After": number;
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `declared-elsewhere`, `lake-differs`. */
        DeclaredElsewhereOrLakeDiffers: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `declared-elsewhere`, `lake-differs`, `lake-needed`. */
        DeclaredElsewhereOrLakeDiffersOrLakeNeeded: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `access-refused`, `declared-elsewhere`, `lake-differs`. */
        AccessRefusedOrDeclaredElsewhereOrLakeDiffers: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `declared-elsewhere`, `lake-differs`, `not-empty`. */
        DeclaredElsewhereOrLakeDiffersOrNotEmpty: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `unknown-machine`. */
        NameTooLongOrUnknownMachine: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-entry`, `unknown-machine`. */
        NameTooLongOrNoEntryOrUnknownMachine: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`. */
        NameTooLongOrNoState: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `unknown-lake`. */
        NameTooLongOrUnknownLake: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`, `unknown-lake`. */
        NameTooLongOrNoStateOrUnknownLake: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`, `unknown-peer`. */
        NameTooLongOrNoStateOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`, `not-followed`, `unknown-peer`. */
        NameTooLongOrNoStateOrNotFollowedOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `unknown-lake`, `unknown-peer`. */
        NameTooLongOrUnknownLakeOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `not-followed`, `unknown-peer`. */
        NameTooLongOrNotFollowedOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`, `unknown-lake`, `unknown-peer`. */
        NameTooLongOrNoStateOrUnknownLakeOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`, `no-state`, `not-followed`, `unknown-lake`, `unknown-peer`. */
        NameTooLongOrNoStateOrNotFollowedOrUnknownLakeOrUnknownPeer: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description There is no such thing here. `name-too-long`. */
        NameTooLong: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `claim-failed`, `unreachable`, `wrong-role`. */
        ClaimFailedOrUnreachableOrWrongRole: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `id-expired`, `id-reused`, `not-claimed`, `over-budget`, `too-many-keys`, `wrong-role`. */
        IdExpiredOrIdReusedOrNotClaimedOrOverBudgetOrTooManyKeysOrWrongRole: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description The state of things does not allow it. `declared-elsewhere`, `id-expired`, `id-reused`, `lake-differs`, `lake-needed`, `wave-refused`. */
        DeclaredElsewhereOrIdExpiredOrIdReusedOrLakeDiffersOrLakeNeededOrWaveRefused: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description Something failed here. `internal`, `outcome-unknown`, `storage`. */
        FailedOrOutcomeUnknown: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
    };
    parameters: {
        /**
         * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
         * @example self
         */
        machine: string;
        /**
         * @description The number of a claim in this run of the node.
         * @example 1
         */
        claim: number;
        /**
         * @description The name of a file of the dashboard.
         * @example app.js
         */
        file: string;
        /** @description The one-time code of the link. */
        code: string;
        /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
        space: components["schemas"]["Space"];
        /**
         * @description The key: any bytes, 0 to 1,024, each that is not unreserved percent-encoded (`%00` to `%FF`); a `+` is a space, as in a form. `key=` is the empty key. A query without `key` is refused.
         * @example price/1
         */
        key: string;
        /** @description Only this key; may be given several times. Encoded as a key is. */
        keys: string[];
        /** @description Only keys that begin with these bytes; may be given several times. Encoded as a key is. */
        prefix: string[];
        /** @description Only keys from this one on, in the order of their bytes. */
        start: string;
        /** @description Only keys before this one. */
        end: string;
        /** @description Only entries that this side wrote. */
        author: components["schemas"]["Author"];
        /** @description Only keys after this one: the last of the page before. */
        after: string;
        /** @description The most entries of the answer, which has at most 16 MiB of values anyway. */
        limit: number;
        /** @description `false` leaves the values out. */
        values: boolean;
        /** @description Where to go on: the id of the last event that was seen. A `Last-Event-ID` header, which a browser sends by itself, counts before it. What is no place of this store gives `reset` (key-value), or a rock in place of waves. */
        from: string;
        /** @description The id of the last event that was seen. */
        last_event_id: string;
        /** @description An id of the write: 1 to 128 visible characters of ASCII, without spaces. Repeated with it, the write is not done again, and the answer is that of the first time. Ids have to ascend in the long run: see docs/http.md. */
        idempotency_key: string;
        /** @description The agent that publishes: a name of 1 to 64 bytes. */
        agent: string;
        /**
         * @description The path.
         * @example /sales/today
         */
        path: components["schemas"]["Path"];
        /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
        peer: components["schemas"]["Ticket"];
        /**
         * @description The lake: `log`, `sum` or `json`, or one of the program's own. It may be left out where there is a state already.
         * @example sum
         */
        lake: string;
        /** @description With which events the rock comes: none; those without a wave, and `caught_up`; every one. */
        rocks: "never" | "needed" | "always";
        /** @description Begin so many waves back, as far as they are kept, if no cursor is given. Otherwise the newest rock comes first. */
        last: number;
        /**
         * @description What to follow; 1 to 32 of them. `node`, `machines`, `claims`, `publications`, `subscriptions`; `kv?machine=ID` or `kv?machine=*` (all machines, those of tomorrow too) with `space`, `key`, `prefix`, `start`, `end`, `author` as for /machines/{machine}/events; `publication?path=/p` and `subscription?peer=ID&path=/p` with `agent`, `lake`, `rocks`, `last`. The whole topic is percent-encoded once more as a value of this query.
         * @example [
         *       "machines",
         *       "kv?machine=*&prefix=price%2F"
         *     ]
         */
        topic: string[];
    };
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    getDashboard: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page. */
            200: {
                headers: {
                    ETag: string;
                    "Cache-Control": "no-cache";
                    [name: string]: unknown;
                };
                content: {
                    "text/html": unknown;
                };
            };
            /** @description The page has the ETag that `If-None-Match` names. */
            304: {
                headers: {
                    ETag: string;
                    "Cache-Control": "no-cache";
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["BadRequest"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
        };
    };
    getAsset: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The name of a file of the dashboard.
                 * @example app.js
                 */
                file: components["parameters"]["file"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The file, with an ETag. */
            200: {
                headers: {
                    ETag: string;
                    "Cache-Control": "no-cache";
                    [name: string]: unknown;
                };
                content: {
                    "text/javascript": unknown;
                    "text/css": unknown;
                    "image/svg+xml": unknown;
                };
            };
            /** @description The file has the ETag that `If-None-Match` names. */
            304: {
                headers: {
                    ETag: string;
                    "Cache-Control": "no-cache";
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["BadRequest"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NotFound"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
        };
    };
    open: {
        parameters: {
            query: {
                /** @description The one-time code of the link. */
                code: components["parameters"]["code"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A session cookie (HttpOnly, SameSite=Strict), and on to the dashboard. */
            303: {
                headers: {
                    "Set-Cookie": string;
                    Location: "./";
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["BadRequest"];
            403: components["responses"]["BadCodeOrForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    getOpenApi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, never>;
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
        };
    };
    getNode: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The node. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Node"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    listPeers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Peers, in the order of their ids. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        peers: components["schemas"]["Peer"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    addPeer: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    ticket: components["schemas"]["Ticket"];
                };
            };
        };
        responses: {
            /** @description The peer. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        peer: components["schemas"]["Id"];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownPeer"];
            408: components["responses"]["TooSlow"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    listMachines: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description In the order of their ids. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        machines: components["schemas"]["Machine"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    getMachine: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The machine. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Machine"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownMachine"];
            409: components["responses"]["WrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    releaseMachine: {
        parameters: {
            query?: {
                /** @description At a machine: delete all its keys and values too, also where it has no manager. A manager refuses it with `wrong-role`. */
                wipe?: boolean;
            };
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is released. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @constant */
                        released: true;
                        /**
                         * @description There if `wipe` was asked for.
                         * @constant
                         */
                        wiped?: true;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownMachine"];
            409: components["responses"]["NotClaimedOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    listClaims: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The newest last; at most 32 that have ended. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        claims: components["schemas"]["Claim"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            409: components["responses"]["WrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    beginClaim: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    ticket: components["schemas"]["ClaimTicket"];
                };
            };
        };
        responses: {
            /** @description The PIN. The machine shows it too, if nobody is in between. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Claim"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownPeer"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["ClaimFailedOrUnreachableOrWrongRole"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyClaimsOrTooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    getClaim: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The number of a claim in this run of the node.
                 * @example 1
                 */
                claim: components["parameters"]["claim"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The claim. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Claim"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownClaim"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    answerClaim: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The number of a claim in this run of the node.
                 * @example 1
                 */
                claim: components["parameters"]["claim"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** @description Whether they are the same. */
                    same: boolean;
                };
            };
        };
        responses: {
            /** @description How it ended: `claimed`, or `refused` if that was the answer. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Claim"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownClaim"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["ClaimFailedOrClaimOver"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
            503: components["responses"]["ShutDown"];
        };
    };
    getPairing: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Whether it does. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Pairing"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            409: components["responses"]["WrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    openPairing: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": {
                    /** @description For how long: 120 unless said otherwise. */
                    seconds?: number;
                };
            };
        };
        responses: {
            /** @description It is open. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Pairing"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["WrongRole"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    closePairing: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description How it is now. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Pairing"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            409: components["responses"]["WrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    makeClaimTicket: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": {
                    /** @description For how long: 3,600 unless said otherwise. */
                    seconds?: number;
                };
            };
        };
        responses: {
            /** @description The ticket. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @description The machine's ticket with the secret. Keep it as one. */
                        ticket: components["schemas"]["ClaimTicket"];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["WrongRole"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    listSpaces: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Their names. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        spaces: components["schemas"]["Space"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownMachine"];
            409: components["responses"]["WrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    listEntries: {
        parameters: {
            query?: {
                /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
                space?: components["parameters"]["space"];
                /** @description Only this key; may be given several times. Encoded as a key is. */
                key?: components["parameters"]["keys"];
                /** @description Only keys that begin with these bytes; may be given several times. Encoded as a key is. */
                prefix?: components["parameters"]["prefix"];
                /** @description Only keys from this one on, in the order of their bytes. */
                start?: components["parameters"]["start"];
                /** @description Only keys before this one. */
                end?: components["parameters"]["end"];
                /** @description Only entries that this side wrote. */
                author?: components["parameters"]["author"];
                /** @description Only keys after this one: the last of the page before. */
                after?: components["parameters"]["after"];
                /** @description The most entries of the answer, which has at most 16 MiB of values anyway. */
                limit?: components["parameters"]["limit"];
                /** @description `false` leaves the values out. */
                values?: components["parameters"]["values"];
            };
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The entries that match any of the keys, the prefixes and the range, and the author. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        entries: components["schemas"]["Entry"][];
                        /** @description Whether there are more: ask again with `after` as the last key. */
                        more: boolean;
                    };
                };
            };
            400: components["responses"]["BadRequestOrKeyTooLong"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownMachine"];
            409: components["responses"]["NotClaimedOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    getEntry: {
        parameters: {
            query: {
                /**
                 * @description The key: any bytes, 0 to 1,024, each that is not unreserved percent-encoded (`%00` to `%FF`); a `+` is a space, as in a form. `key=` is the empty key. A query without `key` is refused.
                 * @example price/1
                 */
                key: components["parameters"]["key"];
                /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
                space?: components["parameters"]["space"];
            };
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The value's bytes. */
            200: {
                headers: {
                    /** @description Who wrote it. */
                    "Groundswell-Author": components["schemas"]["Author"];
                    /** @description The writer's wall clock, in milliseconds since 1970; for people. */
                    "Groundswell-Timestamp": number;
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                };
            };
            400: components["responses"]["BadRequestOrKeyTooLong"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoEntryOrUnknownMachine"];
            409: components["responses"]["NotClaimedOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    putEntry: {
        parameters: {
            query: {
                /**
                 * @description The key: any bytes, 0 to 1,024, each that is not unreserved percent-encoded (`%00` to `%FF`); a `+` is a space, as in a form. `key=` is the empty key. A query without `key` is refused.
                 * @example price/1
                 */
                key: components["parameters"]["key"];
                /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
                space?: components["parameters"]["space"];
            };
            header?: {
                /** @description An id of the write: 1 to 128 visible characters of ASCII, without spaces. Repeated with it, the write is not done again, and the answer is that of the first time. Ids have to ascend in the long run: see docs/http.md. */
                "Idempotency-Key"?: components["parameters"]["idempotency_key"];
            };
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        /** @description The value, 0 bytes to 1 MiB. No body is the empty value. */
        requestBody?: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description The entry, durable on this device. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Entry"];
                };
            };
            400: components["responses"]["BadRequestOrKeyTooLong"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownMachine"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["IdExpiredOrIdReusedOrNotClaimedOrOverBudgetOrTooManyKeysOrWrongRole"];
            413: components["responses"]["TooLargeOrValueTooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    deleteEntry: {
        parameters: {
            query: {
                /**
                 * @description The key: any bytes, 0 to 1,024, each that is not unreserved percent-encoded (`%00` to `%FF`); a `+` is a space, as in a form. `key=` is the empty key. A query without `key` is refused.
                 * @example price/1
                 */
                key: components["parameters"]["key"];
                /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
                space?: components["parameters"]["space"];
            };
            header?: {
                /** @description An id of the write: 1 to 128 visible characters of ASCII, without spaces. Repeated with it, the write is not done again, and the answer is that of the first time. Ids have to ascend in the long run: see docs/http.md. */
                "Idempotency-Key"?: components["parameters"]["idempotency_key"];
            };
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is deleted. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @description Whether it had a value. */
                        deleted: boolean;
                    };
                };
            };
            400: components["responses"]["BadRequestOrKeyTooLong"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownMachine"];
            409: components["responses"]["IdExpiredOrIdReusedOrNotClaimedOrOverBudgetOrTooManyKeysOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    isDelivered: {
        parameters: {
            query?: {
                /** @description How many seconds to wait for it; without it, none. */
                within?: number;
            };
            header?: never;
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Whether it is. What is not goes there by itself. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        delivered: boolean;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["UnknownMachine"];
            409: components["responses"]["NotClaimedOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    streamEntries: {
        parameters: {
            query?: {
                /** @description The name of a space. Without it, or empty: the default space, which is the users'. */
                space?: components["parameters"]["space"];
                /** @description Only this key; may be given several times. Encoded as a key is. */
                key?: components["parameters"]["keys"];
                /** @description Only keys that begin with these bytes; may be given several times. Encoded as a key is. */
                prefix?: components["parameters"]["prefix"];
                /** @description Only keys from this one on, in the order of their bytes. */
                start?: components["parameters"]["start"];
                /** @description Only keys before this one. */
                end?: components["parameters"]["end"];
                /** @description Only entries that this side wrote. */
                author?: components["parameters"]["author"];
                /** @description Where to go on: the id of the last event that was seen. A `Last-Event-ID` header, which a browser sends by itself, counts before it. What is no place of this store gives `reset` (key-value), or a rock in place of waves. */
                from?: components["parameters"]["from"];
            };
            header?: {
                /** @description The id of the last event that was seen. */
                "Last-Event-ID"?: components["parameters"]["last_event_id"];
            };
            path: {
                /**
                 * @description The id of a machine (64 hexadecimal digits); `self` on a machine's own node.
                 * @example self
                 */
                machine: components["parameters"]["machine"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The present state, then `caught_up`, then every change. The id of an event is its cursor. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["ServerSentEvent"];
                };
            };
            400: components["responses"]["BadRequestOrKeyTooLong"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownMachine"];
            409: components["responses"]["NotClaimedOrWrongRole"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequestsOrTooManyStreams"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    listPublications: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description By agent and path. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        publications: components["schemas"]["Publication"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    readPublication: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its rock. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["State"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoState"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    openPublication: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
                /**
                 * @description The lake: `log`, `sum` or `json`, or one of the program's own. It may be left out where there is a state already.
                 * @example sum
                 */
                lake?: components["parameters"]["lake"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The newest aeon. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Given"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownLake"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrLakeNeeded"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    killPublication: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It has ended. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @constant */
                        killed: true;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoState"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    give: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
                /**
                 * @description The lake: `log`, `sum` or `json`, or one of the program's own. It may be left out where there is a state already.
                 * @example sum
                 */
                lake?: components["parameters"]["lake"];
            };
            header?: {
                /** @description An id of the write: 1 to 128 visible characters of ASCII, without spaces. Repeated with it, the write is not done again, and the answer is that of the first time. Ids have to ascend in the long run: see docs/http.md. */
                "Idempotency-Key"?: components["parameters"]["idempotency_key"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /** @example {
                 *       "waves": [
                 *         250,
                 *         300
                 *       ]
                 *     } */
                "application/json": {
                    /** @description At least one. Of a log, strings; of a sum, whole numbers; of json, JSON Patches (arrays, RFC 6902). */
                    waves: unknown[];
                };
            };
        };
        responses: {
            /** @description The last one's aeon; they are durable. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Given"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownLake"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["DeclaredElsewhereOrIdExpiredOrIdReusedOrLakeDiffersOrLakeNeededOrWaveRefused"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    streamPublication: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
                /** @description With which events the rock comes: none; those without a wave, and `caught_up`; every one. */
                rocks?: components["parameters"]["rocks"];
                /** @description Begin so many waves back, as far as they are kept, if no cursor is given. Otherwise the newest rock comes first. */
                last?: components["parameters"]["last"];
                /** @description Where to go on: the id of the last event that was seen. A `Last-Event-ID` header, which a browser sends by itself, counts before it. What is no place of this store gives `reset` (key-value), or a rock in place of waves. */
                from?: components["parameters"]["from"];
            };
            header?: {
                /** @description The id of the last event that was seen. */
                "Last-Event-ID"?: components["parameters"]["last_event_id"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The newest rock, then every wave. The id of an update is its cursor. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["ServerSentEvent"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrUnknownLake"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrLakeNeeded"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequestsOrTooManyStreams"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    changeRule: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description What is left out stays as it is. */
        requestBody: {
            content: {
                /** @example {
                 *       "horizon": 100
                 *     } */
                "application/json": components["schemas"]["RuleChange"];
            };
        };
        responses: {
            /** @description The whole rule. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rule"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoState"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    wipe: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is wiped. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @constant */
                        wiped: true;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoState"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    changeAccess: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /** @example {
                 *       "change": "public"
                 *     } */
                "application/json": {
                    /** @enum {string} */
                    change: "public" | "secret";
                } | {
                    /** @enum {string} */
                    change: "allow" | "block";
                    peers: components["schemas"]["Ticket"][];
                };
            };
        };
        responses: {
            /** @description Who may read it now. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        path: components["schemas"]["Path"];
                        access: components["schemas"]["Access"];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrUnknownPeer"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["AccessRefusedOrDeclaredElsewhereOrLakeDiffers"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    fork: {
        parameters: {
            query: {
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /** @example {
                 *       "to": "/sales/copy"
                 *     } */
                "application/json": {
                    /** @description The new path. */
                    to: components["schemas"]["Path"];
                };
            };
        };
        responses: {
            /** @description Its aeon. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Given"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoState"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrNotEmpty"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    listSubscriptions: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description By peer, agent and path. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        subscriptions: components["schemas"]["Subscription"][];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
        };
    };
    readSubscription: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its rock, where there is any state yet. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["State"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrNotFollowedOrUnknownPeer"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    surf: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
                /**
                 * @description The lake: `log`, `sum` or `json`, or one of the program's own. It may be left out where there is a state already.
                 * @example sum
                 */
                lake?: components["parameters"]["lake"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is followed, whether it is there or not. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        source: components["schemas"]["Source"];
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrUnknownLakeOrUnknownPeer"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrLakeNeeded"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    quit: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is not followed any more. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @constant */
                        quit: true;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNotFollowedOrUnknownPeer"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    streamSubscription: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
                /**
                 * @description The lake: `log`, `sum` or `json`, or one of the program's own. It may be left out where there is a state already.
                 * @example sum
                 */
                lake?: components["parameters"]["lake"];
                /** @description With which events the rock comes: none; those without a wave, and `caught_up`; every one. */
                rocks?: components["parameters"]["rocks"];
                /** @description Begin so many waves back, as far as they are kept, if no cursor is given. Otherwise the newest rock comes first. */
                last?: components["parameters"]["last"];
                /** @description Where to go on: the id of the last event that was seen. A `Last-Event-ID` header, which a browser sends by itself, counts before it. What is no place of this store gives `reset` (key-value), or a rock in place of waves. */
                from?: components["parameters"]["from"];
            };
            header?: {
                /** @description The id of the last event that was seen. */
                "Last-Event-ID"?: components["parameters"]["last_event_id"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The state as it is here, then everything that follows. The id of an update is its cursor. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["ServerSentEvent"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrUnknownLakeOrUnknownPeer"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrLakeNeeded"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequestsOrTooManyStreams"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Failed"];
            503: components["responses"]["ShutDown"];
        };
    };
    changeReplicaRule: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** @description What is left out stays as it is. */
        requestBody: {
            content: {
                "application/json": components["schemas"]["RuleChange"];
            };
        };
        responses: {
            /** @description The whole rule. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rule"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrNotFollowedOrUnknownPeer"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    wipeReplica: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is wiped. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        /** @constant */
                        wiped: true;
                    };
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrNotFollowedOrUnknownPeer"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffers"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    copy: {
        parameters: {
            query: {
                /** @description The publishing peer: its id, or a ticket, whose addresses are then remembered. */
                peer: components["parameters"]["peer"];
                /**
                 * @description The path.
                 * @example /sales/today
                 */
                path: components["parameters"]["path"];
                /** @description The agent that publishes: a name of 1 to 64 bytes. */
                agent?: components["parameters"]["agent"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** @description The new path. */
                    to: components["schemas"]["Path"];
                    /**
                     * @description The agent that is to publish it.
                     * @default main
                     */
                    agent?: components["schemas"]["Name"];
                };
            };
        };
        responses: {
            /** @description Its aeon. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Given"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLongOrNoStateOrNotFollowedOrUnknownLakeOrUnknownPeer"];
            408: components["responses"]["TooSlow"];
            409: components["responses"]["DeclaredElsewhereOrLakeDiffersOrNotEmpty"];
            413: components["responses"]["TooLarge"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequests"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["FailedOrOutcomeUnknown"];
            503: components["responses"]["ShutDown"];
        };
    };
    stream: {
        parameters: {
            query: {
                /**
                 * @description What to follow; 1 to 32 of them. `node`, `machines`, `claims`, `publications`, `subscriptions`; `kv?machine=ID` or `kv?machine=*` (all machines, those of tomorrow too) with `space`, `key`, `prefix`, `start`, `end`, `author` as for /machines/{machine}/events; `publication?path=/p` and `subscription?peer=ID&path=/p` with `agent`, `lake`, `rocks`, `last`. The whole topic is percent-encoded once more as a value of this query.
                 * @example [
                 *       "machines",
                 *       "kv?machine=*&prefix=price%2F"
                 *     ]
                 */
                topic: components["parameters"]["topic"];
                /** @description Where to go on: the id of the last event that was seen. A `Last-Event-ID` header, which a browser sends by itself, counts before it. What is no place of this store gives `reset` (key-value), or a rock in place of waves. */
                from?: components["parameters"]["from"];
            };
            header?: {
                /** @description The id of the last event that was seen. */
                "Last-Event-ID"?: components["parameters"]["last_event_id"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Each event names its topic by its number in the query, from 0. The id carries the cursors of all topics. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["ServerSentEvent"];
                };
            };
            400: components["responses"]["BadRequest"];
            401: components["responses"]["NoToken"];
            403: components["responses"]["ForeignOrigin"];
            404: components["responses"]["NameTooLong"];
            414: components["responses"]["AddressTooLong"];
            421: components["responses"]["ForeignHost"];
            429: components["responses"]["TooManyRequestsOrTooManyStreams"];
            431: components["responses"]["HeadTooLarge"];
            500: components["responses"]["Internal"];
            503: components["responses"]["ShutDown"];
        };
    };
}
