-- Both engines run this file: BIGINT holds microseconds since 1970, BYTEA is
-- bytes in PostgreSQL and a name without meaning in SQLite, which stores what it
-- is given.

-- +goose Up

-- lines holds the order's lines as they were placed (a serialized
-- shop.order.v1.Order with nothing else): they never change, nothing asks for a
-- single one, and a page of orders is one query.
CREATE TABLE orders (
    order_id       TEXT    NOT NULL PRIMARY KEY,
    user_id        TEXT    NOT NULL,
    lines          BYTEA   NOT NULL,
    total_currency TEXT    NOT NULL,
    total_units    BIGINT  NOT NULL,
    total_nanos    INTEGER NOT NULL,
    note           TEXT    NOT NULL,
    state          INTEGER NOT NULL,
    revision       BIGINT  NOT NULL,
    create_time    BIGINT  NOT NULL,
    update_time    BIGINT  NOT NULL
);
CREATE INDEX orders_of_user ON orders (user_id, create_time, order_id);

-- One row a state of an order, written with the change. The order's own revision
-- is the sequence: a number drawn for all orders could become visible out of
-- order, and a watcher that has seen 8 would then miss 7.
CREATE TABLE order_events (
    order_id    TEXT    NOT NULL REFERENCES orders (order_id) ON DELETE CASCADE,
    revision    BIGINT  NOT NULL,
    state       INTEGER NOT NULL,
    update_time BIGINT  NOT NULL,
    PRIMARY KEY (order_id, revision)
);

CREATE TABLE order_idempotency_keys (
    scope       TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    fingerprint BYTEA  NOT NULL,
    response    BYTEA  NOT NULL,
    expire_at   BIGINT NOT NULL,
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX order_idempotency_by_expiry ON order_idempotency_keys (expire_at);

CREATE TABLE order_done (
    name    TEXT   NOT NULL PRIMARY KEY,
    done_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE order_done;
DROP TABLE order_idempotency_keys;
DROP TABLE order_events;
DROP TABLE orders;
