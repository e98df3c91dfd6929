"""Self-contained HTML pages: one template, tables that sort and filter, interval bars, figures."""
