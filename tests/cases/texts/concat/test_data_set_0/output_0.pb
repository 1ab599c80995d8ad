2Apfel!2straße?2ÉCOLE2ß2	naïve本2Ωμέγα!2
日本語?2a b  c2 tab	here ß2x本Bo0