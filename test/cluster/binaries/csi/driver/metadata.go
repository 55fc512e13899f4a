package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Snapshots are compared, and their data is reported, in blocks of this size.
const metadataBlockBytes = 64 << 10

// A message has fewer ranges than a client asks for, so that clients meet several messages.
const rangesOfMessage = 16

// Reads the files of two snapshots and reports where they differ. Both snapshots must exist.
type metadataServer struct {
	csi.UnimplementedSnapshotMetadataServer
	store *store
}

type span struct {
	offset int64
	length int64
}

// The two answers of CSI have the same fields and different types.
type sendMessage func(style csi.BlockMetadataType, capacity int64, ranges []*csi.BlockMetadata) error

func (server *metadataServer) GetMetadataAllocated(request *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	snapshot, file, err := server.open(request.GetSnapshotId())
	if err != nil {
		return err
	}
	defer file.Close()
	spans := func(yield func(span) error) error {
		return allocatedSpans(file, request.GetStartingOffset(), snapshot.SizeBytes, yield)
	}
	send := func(style csi.BlockMetadataType, capacity int64, ranges []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{BlockMetadataType: style, VolumeCapacityBytes: capacity, BlockMetadata: ranges})
	}
	return report(stream.Context(), snapshot, request.GetStartingOffset(), request.GetMaxResults(), spans, send)
}

func (server *metadataServer) GetMetadataDelta(request *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	base, before, err := server.open(request.GetBaseSnapshotId())
	if err != nil {
		return err
	}
	defer before.Close()
	target, after, err := server.open(request.GetTargetSnapshotId())
	if err != nil {
		return err
	}
	defer after.Close()
	if base.Source != target.Source || base.CreatedAt.After(target.CreatedAt) {
		return status.Error(codes.InvalidArgument, "the base is no older snapshot of the same volume")
	}
	spans := func(yield func(span) error) error {
		return changedSpans(before, after, request.GetStartingOffset(), target.SizeBytes, yield)
	}
	send := func(style csi.BlockMetadataType, capacity int64, ranges []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{BlockMetadataType: style, VolumeCapacityBytes: capacity, BlockMetadata: ranges})
	}
	return report(stream.Context(), target, request.GetStartingOffset(), request.GetMaxResults(), spans, send)
}

func (server *metadataServer) open(id string) (*record, *os.File, error) {
	if id == "" {
		return nil, nil, status.Error(codes.InvalidArgument, "no snapshot is named")
	}
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	snapshot, err := server.store.read(snapshotsFolder, id)
	switch {
	case err != nil:
		return nil, nil, err
	case snapshot == nil:
		return nil, nil, status.Errorf(codes.NotFound, "no snapshot %s", id)
	case !snapshot.isReady():
		return nil, nil, status.Errorf(codes.FailedPrecondition, "snapshot %s is not ready", id)
	case !snapshot.Block:
		return nil, nil, status.Errorf(codes.FailedPrecondition, "snapshot %s is a directory", id)
	}
	file, err := os.Open(server.store.contentOf(snapshotsFolder, id, true))
	return snapshot, file, err
}

// The blocks that have data in a file, as the file system shows them.
func allocatedSpans(file *os.File, start, size int64, yield func(span) error) error {
	for at := start; at < size; {
		data, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(file.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		begin := data / metadataBlockBytes * metadataBlockBytes
		end := min((hole+metadataBlockBytes-1)/metadataBlockBytes*metadataBlockBytes, size)
		if err := yield(span{offset: begin, length: end - begin}); err != nil {
			return err
		}
		at = max(end, hole)
	}
	return nil
}

// All blocks that differ; those behind the end of the base too.
func changedSpans(before, after *os.File, start, size int64, yield func(span) error) error {
	old, now := make([]byte, metadataBlockBytes), make([]byte, metadataBlockBytes)
	for at := start / metadataBlockBytes * metadataBlockBytes; at < size; at += metadataBlockBytes {
		length, err := readAt(after, now, at)
		if err != nil {
			return err
		}
		known, err := readAt(before, old, at)
		if err != nil {
			return err
		}
		if known == length && bytes.Equal(old[:known], now[:length]) {
			continue
		}
		if err := yield(span{offset: at, length: int64(length)}); err != nil {
			return err
		}
	}
	return nil
}

func readAt(file *os.File, buffer []byte, offset int64) (int, error) {
	length, err := file.ReadAt(buffer, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return length, err
}

// Sends the spans in messages. The class of the snapshot may ask for wrong ones.
func report(ctx context.Context, snapshot *record, start int64, maxResults int32, spans func(func(span) error) error, send sendMessage) error {
	if start < 0 || start > snapshot.SizeBytes {
		return status.Errorf(codes.OutOfRange, "offset %d is not on the volume", start)
	}
	if maxResults < 0 {
		return status.Error(codes.InvalidArgument, "max_results is negative")
	}
	style := csi.BlockMetadataType_VARIABLE_LENGTH
	if strings.HasPrefix(snapshot.Metadata, "fixed") {
		style = csi.BlockMetadataType_FIXED_LENGTH
	}
	limit := rangesOfMessage
	if maxResults > 0 {
		limit = min(limit, int(maxResults))
	}
	var ranges []*csi.BlockMetadata
	flush := func() error {
		sent := ranges
		ranges = nil
		return send(style, snapshot.SizeBytes, played(snapshot, sent))
	}
	count := 0
	err := spans(func(found span) error {
		count++
		if snapshot.Metadata == "cut" && count > 1 {
			return status.Error(codes.Internal, "the storage was lost")
		}
		for _, each := range divided(found, style) {
			ranges = append(ranges, &csi.BlockMetadata{ByteOffset: each.offset, SizeBytes: each.length})
			if len(ranges) == limit {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if snapshot.Metadata == "slow" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Hour):
		}
	}
	return flush()
}

// Blocks of one size are reported one by one. The last one may go on behind the end of the volume.
func divided(found span, style csi.BlockMetadataType) []span {
	if style != csi.BlockMetadataType_FIXED_LENGTH {
		return []span{found}
	}
	var blocks []span
	for at := found.offset; at < found.offset+found.length; at += metadataBlockBytes {
		blocks = append(blocks, span{offset: at, length: metadataBlockBytes})
	}
	return blocks
}

func played(snapshot *record, ranges []*csi.BlockMetadata) []*csi.BlockMetadata {
	switch snapshot.Metadata {
	case "beyond":
		return append(ranges, &csi.BlockMetadata{ByteOffset: snapshot.SizeBytes, SizeBytes: metadataBlockBytes})
	case "unordered":
		return append(ranges, &csi.BlockMetadata{ByteOffset: 0, SizeBytes: 512}, &csi.BlockMetadata{ByteOffset: 0, SizeBytes: 512})
	}
	return ranges
}
