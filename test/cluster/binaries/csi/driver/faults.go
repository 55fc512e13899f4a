package main

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Faults that a class asks for by its parameters.
type faults struct {
	// The call fails; a call without a code succeeds.
	code    codes.Code
	message string
	// How many calls for one name fail; 0 is all.
	times int
	// The call has no answer.
	hangs bool
	// How long a snapshot is not ready.
	readyAfter time.Duration
	// How the metadata of a snapshot is reported.
	metadata string
}

// fixed: blocks of one size. The others are faults.
var metadataStyles = []string{"fixed", "beyond", "unordered", "cut", "slow"}

const forever = time.Duration(math.MaxInt64)

// Unknown parameters are refused, so that a fault with a typing error is no success.
func parseFaults(parameters map[string]string) (faults, error) {
	parsed := faults{message: "a fault of the class"}
	for key, value := range parameters {
		var err error
		switch key {
		case "failCode":
			err = json.Unmarshal([]byte(strconv.Quote(value)), &parsed.code)
		case "failMessage":
			parsed.message = value
		case "failTimes":
			parsed.times, err = strconv.Atoi(value)
		case "hangs":
			parsed.hangs, err = strconv.ParseBool(value)
		case "readyAfterSeconds":
			if value == "never" {
				parsed.readyAfter = forever
			} else {
				var seconds int
				seconds, err = strconv.Atoi(value)
				parsed.readyAfter = time.Duration(seconds) * time.Second
			}
		case "metadata":
			parsed.metadata = value
			if !slices.Contains(metadataStyles, value) {
				err = status.Error(codes.InvalidArgument, "no such style")
			}
		default:
			err = status.Error(codes.InvalidArgument, "no such parameter")
		}
		if err != nil {
			return parsed, status.Errorf(codes.InvalidArgument, "%s=%s: %v", key, value, err)
		}
	}
	return parsed, nil
}

// The failures so far are counted by the name of the volume or the snapshot.
func (asked faults) play(ctx context.Context, failures *int) error {
	if asked.hangs {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	if asked.code == codes.OK || (asked.times > 0 && *failures >= asked.times) {
		return nil
	}
	*failures++
	return status.Error(asked.code, asked.message)
}
