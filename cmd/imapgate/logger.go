package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"imapgate/cmd/imapgate/internal/config"
)

// newLogger returns the logger that the configuration asks for. Its level can be
// changed while it is used, its format cannot.
func newLogger(conf *config.Log, w *logWriter) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevelAt(logLevel(conf))
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey = "time"
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
	enc.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if conf.Format.V == "console" || conf.Format.V == "auto" && isTerminal(w.w) {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.EncodeDuration = zapcore.StringDurationEncoder
		enc.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	writer := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w.w), level))
	w.missing = func(lines int) {
		writer.Warn("log lines dropped here: standard error was not taken in time", zap.Int("lines", lines))
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), level)), level
}

// logLevel returns the level of the configuration, info when there is none.
func logLevel(conf *config.Log) zapcore.Level {
	level, err := zapcore.ParseLevel(conf.Level.V)
	if err != nil {
		return zapcore.InfoLevel
	}
	return level
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
