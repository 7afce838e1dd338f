package main

import (
	"encoding/binary"
	"io"
	"sync"
)

// A frame is one byte of type, four bytes of length (big endian), and that many bytes.
const (
	frameStdin  = 0 // to the guest; empty = end of input
	frameStdout = 1
	frameStderr = 2
	frameExit   = 3 // JSON {"exitCode": 0, "error": ""}
	frameSignal = 4 // to the guest; one byte, the signal's number, sent to the process group
)

const frameLengthMax = 1 << 20

func readFrame(reader io.Reader) (kind byte, payload []byte, err error) {
	var header [5]byte
	if _, err = io.ReadFull(reader, header[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length > frameLengthMax {
		return 0, nil, io.ErrShortBuffer
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(reader, payload)
	return header[0], payload, err
}

// frameWriter writes each chunk as a frame of one kind; all kinds share a connection and its lock.
type frameWriter struct {
	mutex  *sync.Mutex
	writer io.Writer
	kind   byte
}

func (w frameWriter) Write(chunk []byte) (int, error) {
	written := 0
	for written < len(chunk) {
		part := chunk[written:min(len(chunk), written+frameLengthMax)]
		frame := make([]byte, 5, 5+len(part))
		frame[0] = w.kind
		binary.BigEndian.PutUint32(frame[1:], uint32(len(part)))
		w.mutex.Lock()
		_, err := w.writer.Write(append(frame, part...))
		w.mutex.Unlock()
		if err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}
