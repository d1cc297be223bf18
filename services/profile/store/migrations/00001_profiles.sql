-- Both engines run this file: BIGINT holds microseconds since 1970, BYTEA is
-- bytes in PostgreSQL and a name without meaning in SQLite, which stores what it
-- is given. languages and links are JSON.

-- +goose Up
CREATE TABLE profiles (
    user_id     TEXT    NOT NULL PRIMARY KEY,
    bio         TEXT    NOT NULL,
    location    TEXT    NOT NULL,
    website     TEXT    NOT NULL,
    languages   TEXT    NOT NULL,
    links       TEXT    NOT NULL,
    has_avatar  BOOLEAN NOT NULL,
    revision    BIGINT  NOT NULL,
    create_time BIGINT  NOT NULL,
    update_time BIGINT  NOT NULL
);

-- Apart from the profiles, which are read often and small.
CREATE TABLE avatars (
    user_id      TEXT  NOT NULL PRIMARY KEY REFERENCES profiles (user_id) ON DELETE CASCADE,
    content_type TEXT  NOT NULL,
    data         BYTEA NOT NULL
);

CREATE TABLE profile_done (
    name    TEXT   NOT NULL PRIMARY KEY,
    done_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE profile_done;
DROP TABLE avatars;
DROP TABLE profiles;
