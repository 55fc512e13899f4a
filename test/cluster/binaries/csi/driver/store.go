package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ROOT/volumes/ID and ROOT/snapshots/ID each have a record and the content: `data`, a directory, or `disk.img`.
type store struct {
	root string
	lock sync.Mutex
}

type record struct {
	SizeBytes int64
	Block     bool
	// The snapshot that the volume was restored from, or the volume that the snapshot is of.
	Source string
	// Only of snapshots.
	CreatedAt  time.Time
	ReadyAfter time.Duration
	// How its metadata is reported: the parameter `metadata` of the class.
	Metadata string
}

const (
	volumesFolder   = "volumes"
	snapshotsFolder = "snapshots"
	recordFile      = "record.json"
)

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

func openStore(root string) (*store, error) {
	for _, folder := range []string{volumesFolder, snapshotsFolder} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			return nil, err
		}
	}
	return &store{root: root}, nil
}

func (volumes *store) folderOf(kind, id string) string {
	return filepath.Join(volumes.root, kind, id)
}

func (volumes *store) contentOf(kind, id string, block bool) string {
	if block {
		return filepath.Join(volumes.folderOf(kind, id), "disk.img")
	}
	return filepath.Join(volumes.folderOf(kind, id), "data")
}

// Returns nil where there is none.
func (volumes *store) read(kind, id string) (*record, error) {
	if !plainName.MatchString(id) {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(volumes.folderOf(kind, id), recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := &record{}
	return found, json.Unmarshal(text, found)
}

// The rename makes it appear complete.
func (volumes *store) create(kind, id string, made record, fill func(folder string) error) error {
	if !plainName.MatchString(id) {
		return status.Errorf(codes.InvalidArgument, "%q is not a plain name", id)
	}
	partial := volumes.folderOf(kind, "."+id)
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return err
	}
	if err := fill(partial); err != nil {
		return err
	}
	text, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, recordFile), text, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, volumes.folderOf(kind, id))
}

func (volumes *store) remove(kind, id string) error {
	if !plainName.MatchString(id) {
		return nil
	}
	return os.RemoveAll(volumes.folderOf(kind, id))
}

// Where the file system shares blocks, each file of the copy shows one moment.
func copyContent(from, to string) error {
	output, err := exec.Command("cp", "--archive", "--reflink=auto", "--sparse=always", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, output)
	}
	return nil
}
