// Package store keeps profiles and pictures in SQLite or PostgreSQL, with one text
// of SQL. Errors are gRPC statuses where a caller caused them.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/profile/domain"
)

// Service is the name under which the schema is versioned and tables are named.
const Service = "profile"

//go:embed migrations/*.sql
var migrations embed.FS

const columns = `user_id, bio, location, website, languages, links, has_avatar, revision, create_time, update_time`

// Store keeps profiles. It is safe for concurrent use, by several processes too.
type Store struct {
	db          *database.DB
	get, avatar *sql.Stmt
}

// Open opens and migrates the database named by dsn.
func Open(ctx context.Context, dsn string) (*Store, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, dsn, Service, dir)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.get, `SELECT ` + columns + ` FROM profiles WHERE user_id = $1`},
		{&s.avatar, `SELECT content_type, data FROM avatars WHERE user_id = $1`},
	} {
		if *p.stmt, err = db.Read.PrepareContext(ctx, p.query); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
		}
	}
	return s, nil
}

// DB returns the database, for transactions and health checks.
func (s *Store) DB() *database.DB { return s.db }

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.get.Close(), s.avatar.Close(), s.db.Close()) }

// Get returns a profile, or NOT_FOUND.
func (s *Store) Get(ctx context.Context, userID string) (domain.Profile, error) {
	p, err := scan(s.get.QueryRowContext(ctx, userID))
	if errors.Is(err, sql.ErrNoRows) {
		return domain.Profile{}, kit.NotFound("profile of user %q not found", userID)
	}
	return p, failed("get profile", err)
}

// Avatar returns a user's picture, or NOT_FOUND.
func (s *Store) Avatar(ctx context.Context, userID string) (domain.Avatar, error) {
	var a domain.Avatar
	err := s.avatar.QueryRowContext(ctx, userID).Scan(&a.ContentType, &a.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return domain.Avatar{}, kit.NotFound("avatar of user %q not found", userID)
	}
	return a, failed("get avatar", err)
}

// Update locks the profile, makes one where there is none, lets change decide and
// stores what it returns as the next revision. What change returns unchanged is
// left alone, unless it was not there before.
func (s *Store) Update(ctx context.Context, userID string, now time.Time, change func(domain.Profile) (domain.Profile, error)) (domain.Profile, error) {
	var out domain.Profile
	err := s.db.Tx(ctx, func(tx *sql.Tx) (err error) {
		out, err = s.UpdateIn(ctx, tx, userID, now, change)
		return err
	})
	if errors.Is(err, errUnchanged) {
		return out, nil
	}
	return out, failed("update profile", err)
}

// errUnchanged undoes the transaction that found nothing to do.
var errUnchanged = errors.New("nothing to change")

// UpdateIn is Update within tx, which the caller must undo when it fails.
func (s *Store) UpdateIn(ctx context.Context, tx *sql.Tx, userID string, now time.Time, change func(domain.Profile) (domain.Profile, error)) (domain.Profile, error) {
	// The row is held from here on, made where it was missing.
	old, err := scan(tx.QueryRowContext(ctx, `INSERT INTO profiles AS p (`+columns+`)
VALUES ($1, '', '', '', '[]', '{}', FALSE, 1, $2, $2)
ON CONFLICT (user_id) DO UPDATE SET revision = p.revision + 1 RETURNING `+columns, userID, now.UnixMicro()))
	if err != nil {
		return old, err
	}
	old.Revision--
	out, err := change(old)
	if err != nil {
		return out, err
	}
	if old.Revision > 0 && out.Same(old) {
		return old, errUnchanged
	}
	out.Revision = old.Revision + 1
	if now.After(old.Updated) { // Time must not run backwards with the clock.
		out.Updated = now
	}
	languages, links, err := marshal(out)
	if err != nil {
		return out, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE profiles SET bio = $2, location = $3, website = $4, languages = $5, links = $6,
has_avatar = $7, update_time = $8 WHERE user_id = $1`,
		userID, out.Bio, out.Location, out.Website, languages, links, out.HasAvatar, out.Updated.UnixMicro())
	return out, err
}

// InsertIfAbsent adds p within tx, unless its user has a profile.
func (s *Store) InsertIfAbsent(ctx context.Context, tx *sql.Tx, p domain.Profile, now time.Time) (added bool, err error) {
	languages, links, err := marshal(p)
	if err != nil {
		return false, err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO profiles (`+columns+`)
VALUES ($1, $2, $3, $4, $5, $6, FALSE, 1, $7, $7) ON CONFLICT DO NOTHING`,
		p.UserID, p.Bio, p.Location, p.Website, languages, links, now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("insert profile: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// SetAvatar stores a user's picture, in place of another. A profile is made where
// there is none.
func (s *Store) SetAvatar(ctx context.Context, userID string, now time.Time, a domain.Avatar) (domain.Profile, error) {
	var out domain.Profile
	err := s.db.Tx(ctx, func(tx *sql.Tx) (err error) {
		out, err = s.SetAvatarIn(ctx, tx, userID, now, a)
		return err
	})
	return out, failed("set avatar", err)
}

// SetAvatarIn is SetAvatar within tx, which the caller must undo when it fails.
func (s *Store) SetAvatarIn(ctx context.Context, tx *sql.Tx, userID string, now time.Time, a domain.Avatar) (domain.Profile, error) {
	out, err := s.UpdateIn(ctx, tx, userID, now, func(p domain.Profile) (domain.Profile, error) {
		p.HasAvatar = true
		return p, nil
	})
	if errors.Is(err, errUnchanged) { // Had one before: the picture is new all the same.
		out.Revision++
		if now.After(out.Updated) {
			out.Updated = now
		}
		_, err = tx.ExecContext(ctx, `UPDATE profiles SET update_time = $2 WHERE user_id = $1`, userID, out.Updated.UnixMicro())
	}
	if err != nil {
		return out, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO avatars (user_id, content_type, data) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET content_type = excluded.content_type, data = excluded.data`, userID, a.ContentType, a.Data)
	return out, err
}

func marshal(p domain.Profile) (languages, links string, err error) {
	if p.Languages == nil {
		p.Languages = []string{}
	}
	if p.Links == nil {
		p.Links = map[string]string{}
	}
	rawLanguages, err := json.Marshal(p.Languages)
	if err != nil {
		return "", "", err
	}
	rawLinks, err := json.Marshal(p.Links)
	return string(rawLanguages), string(rawLinks), err
}

func scan(row interface{ Scan(...any) error }) (domain.Profile, error) {
	var (
		p                domain.Profile
		languages, links string
		created, updated int64
	)
	err := row.Scan(&p.UserID, &p.Bio, &p.Location, &p.Website, &languages, &links, &p.HasAvatar, &p.Revision, &created, &updated)
	if err != nil {
		return p, err
	}
	p.Created, p.Updated = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	return p, errors.Join(json.Unmarshal([]byte(languages), &p.Languages), json.Unmarshal([]byte(links), &p.Links))
}

func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return database.Unreachable(fmt.Errorf("%s: %w", what, err))
}
