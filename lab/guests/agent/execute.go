package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Time that a killed command's descendants may keep its outputs open.
const outputGrace = 2 * time.Second

type exitReport struct {
	ExitCode int    `json:"exitCode"`
	Error    string `json:"error,omitempty"`
}

// execute runs one command, passes its streams as frames, and ends with its exit frame.
func execute(connection net.Conn, reader *bufio.Reader, argv []string) {
	var mutex sync.Mutex
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir = "/root"
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Stdout = frameWriter{&mutex, connection, frameStdout}
	command.Stderr = frameWriter{&mutex, connection, frameStderr}
	command.WaitDelay = outputGrace
	report := func(code int, err error) {
		result := exitReport{ExitCode: code}
		if err != nil {
			result.Error = err.Error()
		}
		payload, _ := json.Marshal(result)
		_, _ = frameWriter{&mutex, connection, frameExit}.Write(payload)
	}
	stdin, err := command.StdinPipe()
	if err != nil {
		report(126, err)
		return
	}
	if err := command.Start(); err != nil {
		report(127, err)
		return
	}
	group := -command.Process.Pid
	go func() {
		for {
			kind, payload, err := readFrame(reader)
			switch {
			case err != nil:
				_ = syscall.Kill(group, syscall.SIGKILL)
				return
			case kind == frameStdin && len(payload) == 0:
				_ = stdin.Close()
			case kind == frameStdin:
				_, _ = stdin.Write(payload)
			case kind == frameSignal && len(payload) == 1:
				_ = syscall.Kill(group, syscall.Signal(payload[0]))
			}
		}
	}()
	err = command.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		report(command.ProcessState.ExitCode(), nil)
	case errors.As(err, &exit):
		report(exitCode(exit), nil)
	default:
		report(126, err)
	}
}

// exitCode follows the shell: 128 plus the signal for a command that a signal ended.
func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
