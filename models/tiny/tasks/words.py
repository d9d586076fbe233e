"""The small vocabulary that every task draws from."""

NAMES = """Mia Tom Ana Ben Leo Eva Sam Ida Max Zoe Kim Noa Ali Eli Ada Ivy Jan Kai Lou Una Finn Rosa Hugo Vera
Omar Lena Otto Nina Paul Sara Emil Jude Mara Owen Tara Cleo Dora Gus Hana Igor""".split()

CITIES = """Paris Rome Oslo Cairo Lima Delhi Tokyo Berlin Madrid Dublin Vienna Lisbon Prague Athens Seoul Quito
Boston Denver Austin Geneva Zurich Hanoi Milan Turin Naples Porto Bergen Lyon Kyoto Accra""".split()

ANIMALS = """fox cat dog owl bear wolf mouse hare frog duck goose horse sheep goat crab whale tiger lion otter
badger raven crow robin snail turtle spider bee moth deer seal""".split()

OBJECTS = """lantern key map bell book cup drum kite ring rope shell stone boat ladder mirror candle basket hammer
feather button compass kettle blanket whistle coin clock chair table pillow bucket spoon brush wagon anchor
puzzle helmet mitten pencil flute jar""".split()

PLACES = """forest river hill garden harbor market tower meadow island cave bridge village castle valley lake
mill barn attic beach field""".split()

COLORS = "red green blue yellow white black brown orange purple pink gray silver".split()

TRAITS = """small old brave quiet happy clever kind shy tired curious gentle proud lonely lazy young busy
careful cheerful""".split()

FOODS = """bread soup rice pasta cheese apples pears plums honey cake pizza salad beans eggs fish tea milk
lemons nuts corn""".split()

JOBS = """teacher doctor baker pilot farmer painter writer singer nurse lawyer driver tailor miner sailor
gardener plumber chef judge""".split()

SPORTS = "tennis chess football golf hockey rugby judo boxing rowing skiing cycling running".split()

WEATHER = "sunny cloudy rainy windy foggy snowy stormy clear".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

PLAIN = """time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work number night point home water room
mother area money story fact month lot right study eye job word business issue side head house service
friend father power hour game line end member law car city name team minute idea body back face others level
office door health person art war history party result change morning reason research girl guy moment air
teacher force education foot boy age policy music market sense road form paper space ground field page
summer winter spring autumn north south east west hill sea sky sun moon star tree leaf root seed grass rain
snow wind cloud fire iron gold glass wood metal salt sugar butter flour meal plate knife fork pot pan oven
shirt shoe coat hat glove scarf sock dress belt bag box lock wheel engine train plane ship bike bus""".split()

WORDS = sorted(set(PLAIN + ANIMALS + OBJECTS + PLACES + COLORS + FOODS))

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
