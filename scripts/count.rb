# Counts, a line at a time, and says goodbye on stderr.
$stdout.sync = true
1.upto(5) do |number|
  puts "count #{number}"
  sleep 0.3
end
warn "that is all"
