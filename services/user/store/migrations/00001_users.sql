-- Both engines run this file: BIGINT holds microseconds since 1970, BYTEA is
-- bytes in PostgreSQL and a name without meaning in SQLite, which stores what it
-- is given.

-- +goose Up
CREATE TABLE users (
    user_id      TEXT   NOT NULL PRIMARY KEY,
    email        TEXT   NOT NULL,
    email_key    TEXT   NOT NULL UNIQUE,
    display_name TEXT   NOT NULL,
    name_key     TEXT   NOT NULL,
    phone        TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    create_time  BIGINT NOT NULL,
    update_time  BIGINT NOT NULL
);
CREATE INDEX users_by_creation ON users (create_time, user_id);

CREATE TABLE user_idempotency_keys (
    scope       TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    fingerprint BYTEA  NOT NULL,
    response    BYTEA  NOT NULL,
    expire_at   BIGINT NOT NULL,
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX user_idempotency_by_expiry ON user_idempotency_keys (expire_at);

CREATE TABLE user_done (
    name    TEXT   NOT NULL PRIMARY KEY,
    done_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE user_done;
DROP TABLE user_idempotency_keys;
DROP TABLE users;
