-- Both engines run this file: BIGINT holds microseconds since 1970.

-- +goose Up
CREATE TABLE payments (
    payment_id  TEXT   NOT NULL PRIMARY KEY,
    user_id     TEXT   NOT NULL,
    order_id    TEXT   NOT NULL,
    currency    TEXT   NOT NULL,
    cents       BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    UNIQUE (user_id, order_id)
);
CREATE INDEX payments_by_user ON payments (user_id, create_time, payment_id);

CREATE TABLE payments_done (
    name    TEXT   NOT NULL PRIMARY KEY,
    done_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE payments_done;
DROP TABLE payments;
