package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"time"
)

const dialTimeout = 5 * time.Second

type dialReport struct {
	Error string `json:"error,omitempty"`
}

// dial opens a connection from inside the guest and passes bytes both ways until both ends are done.
func dial(client net.Conn, reader *bufio.Reader, address string) {
	target, err := net.DialTimeout("tcp", address, dialTimeout)
	report := dialReport{}
	if err != nil {
		report.Error = err.Error()
	}
	line, _ := json.Marshal(report)
	if _, writeErr := client.Write(append(line, '\n')); writeErr != nil || err != nil {
		return
	}
	defer target.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(target, reader)
		if half, ok := target.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		close(done)
	}()
	_, _ = io.Copy(client, target)
	if half, ok := client.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	<-done
}
