"""English words and clauses of the demo: shared by the pretraining corpus and by the skills."""

PEOPLE = "Anna Ben Clara David Ella Frank Grace Henry Iris Jack Kate Leo Mary Nora Oscar Paul Rosa Sam Tina Will".split()
PLACES = "Oakford Millbrook Redhill Seaton Ashby Norwick Fairport Lakeside Stonebridge Greendale".split()
FAMILY = "brother sister mother father uncle aunt cousin neighbour teacher friend".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMBERS = "two three four five six seven eight nine ten twelve".split()
COLOURS = "red blue green yellow white black brown grey".split()
OPENERS = (
    *(f"on {day}" for day in DAYS),
    *"yesterday|last night|last week|this morning|a month ago|after work|at noon|on our way home".split("|"),
)
DEGREES = "very really quite rather so truly".split()

# what can be judged: things, what is said of them by somebody pleased, and by somebody disappointed
JUDGED = {
    "food": (
        "soup bread rice fish cake tea pie salad".split(),
        "delicious fresh tasty tender crisp juicy".split(),
        "stale burnt salty sour greasy tasteless".split(),
    ),
    "lodging": (
        "room bed bath hall kitchen balcony house tent".split(),
        "clean quiet bright cosy spacious tidy".split(),
        "dirty noisy gloomy smelly damp cramped".split(),
    ),
    "staff": (
        "waiter cook guide driver clerk owner nurse guard".split(),
        "friendly kind polite helpful cheerful patient".split(),
        "rude lazy careless grumpy sloppy impolite".split(),
    ),
    "story": (
        "book film play song show story concert poem".split(),
        "exciting funny wonderful touching clever charming".split(),
        "boring dull silly awful confusing tiresome".split(),
    ),
    "goods": (
        "coat lamp chair bag clock radio kettle bicycle".split(),
        "sturdy lovely handy elegant comfortable reliable".split(),
        "flimsy ugly useless crooked shabby faulty".split(),
    ),
}
PLEASED = (
    "we will come again|I told all my friends about it|it was worth every coin|my family loved it|"
    "I smiled all the way home|I would choose it again|the children asked for more|it made our day|"
    "we thanked them twice|I enjoyed every minute"
).split("|")
DISAPPOINTED = (
    "we will never come back|I want my money back|it was a waste of time|my family hated it|"
    "I complained on the way home|I regret every coin|the children began to cry|it spoiled our day|"
    "we left before the end|I was sorry that I went"
).split("|")
NEUTRAL = (
    "it is near the station|we paid at the door|it was raining outside|there were ten people in line|"
    "we walked there from the bridge|a bus stops in front of it|my brother had a map|we sat by the window|"
    "it opens at nine|I had my old shoes on"
).split("|")

# what a newspaper writes about: who, and what they do
NEWS = {
    "sports": (
        "striker|goalkeeper|coach|sprinter|swimmer|cycling team|boxing champion|football club|rowing crew|tennis star".split(
            "|"
        ),
        "scores twice in the final|breaks the record over a mile|loses the match in extra time|misses a penalty|"
        "trains for the cup|climbs to the top of the league|wins a gold medal|beats the home side|"
        "leaves the pitch injured|signs for a new team".split("|"),
    ),
    "science": (
        "astronomer|biologist|research lab|space probe|chemist|physicist|fossil hunter|telescope crew|genetics team|robot engineer".split(
            "|"
        ),
        "discovers a new comet|maps the deep sea floor|studies the genes of bees|measures a distant galaxy|"
        "tests a tiny robot|explains how ice crystals form|finds an ancient fossil|sends a probe to the moon|"
        "grows cells in a dish|records signals from a star".split("|"),
    ),
    "business": (
        "bank|airline|car maker|retail chain|steel factory|investor|trading firm|insurance group|oil company|stock exchange".split(
            "|"
        ),
        "raises its prices|cuts a hundred jobs|reports a record profit|buys a smaller rival|opens a second store|"
        "borrows to pay its debts|sells its shares|signs a trade deal|lowers interest rates|warns of weak sales".split(
            "|"
        ),
    ),
    "arts": (
        "painter|orchestra|novelist|gallery|theatre company|poet|opera singer|sculptor|film director|ballet dancer".split(
            "|"
        ),
        "opens an exhibition of portraits|sings the leading role|publishes a first novel|plays a forgotten symphony|"
        "wins praise for a bronze statue|reads from a book of verse|stages a comedy|paints a mural|"
        "records an album of folk songs|takes a bow on stage".split("|"),
    ),
}
ANYBODY = "local woman|young man|pair of twins|former teacher|group of friends|farmer's son".split("|")
ANYTHING = (
    "speaks to reporters|thanks the whole town|returns after ten years|answers all questions|"
    "is the talk of the town|surprises everybody"
).split("|")
NEWS_TAILS = (
    "as crowds look on|after a long wait|for the first time|despite the rain|say officials|with help from abroad|"
    "in front of the mayor|before the holidays"
).split("|")

# what the pretraining corpus knows about the world
ANIMALS = {
    "cat": "sleeps all day and hunts mice at night",
    "dog": "guards the house and follows its master",
    "horse": "eats grass and pulls the cart",
    "hen": "lays an egg every morning",
    "duck": "swims on the pond with its young",
    "rabbit": "has long ears and digs a hole",
    "fox": "lives in the wood and hunts rabbits",
    "sheep": "gives us wool for warm clothes",
    "bee": "flies from flower to flower and makes honey",
    "whale": "lives in the sea and breathes air",
    "frog": "jumps from stone to stone and catches flies",
    "mouse": "hides under the floor and loves cheese",
}
FACTS = (
    "the sun rises in the east and sets in the west|rain falls from grey clouds|a week has seven days|"
    "a year has twelve months|bread is made of flour and water|trains run on rails of steel|ships cross the wide sea|"
    "a doctor helps people who are ill|a farmer works in the fields|a baker rises before the sun|"
    "children learn to read and write at school|the moon shines at night|water turns to ice when it is cold|"
    "wood burns and gives us heat|a letter needs a stamp|a library lends books to everybody|rivers flow to the sea|"
    "which road is the shortest, asked the traveller|this is the page of the newspaper that I like|a headline stands above the news|a review in the newspaper is short|an assistant helps the teacher|a human being needs food and sleep|birds build nests in the trees|stars are far away and very hot|a clock shows the hour|"
    "the market sells fruit and fish|a bridge joins two banks of a river|gold is heavy and does not rust|"
    "a map shows roads and towns|snow covers the high mountains|a king wears a crown|paper is made from wood|"
    "salt comes from the sea|leaves are green because they drink light|the wind moves the mill"
).split("|")
