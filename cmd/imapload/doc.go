// Imapload puts load on IMAP proxies and measures them side by side: the proxies
// themselves, a backend that costs nothing behind them, and clients in front. It
// runs on Linux alone.
package main
